//! What the ranks do together, made of messages between two of them.
//!
//! In step s of an exchange rank r sends to r + s and hears from r − s, so that every rank sends and receives
//! all the time. What is added up is added in the ranks' order, whoever's was there first.
//!
//! Who has the sum of what may be uneven: one rank owns the largest parameter. What many ranks need or add to is
//! therefore cut into equal slices, one for each rank, which alone adds up or hands on that one; between slices
//! and owners a number moves once ([`redistribute`]), where they are not the same rank anyhow.

use std::ops::Range;

use super::link::Link;

/// Bytes of a sum that are on their way at once, from each rank: what bounds the memory of an exchange.
const CHUNK: usize = 1 << 20;

/// The ranks that this one sends to and hears from, step by step.
fn steps(link: &dyn Link) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rank, size) = (link.rank(), link.size());
    (1..size).map(move |s| ((rank + s) % size, (rank + size - s) % size))
}

/// The sizes in bytes of what each rank has.
fn sizes(link: &mut dyn Link, mine: usize) -> Vec<usize> {
    let all = link.gather(&(mine as u64).to_le_bytes());
    let (eights, _) = all.as_chunks::<8>();
    eights
        .iter()
        .map(|x| u64::from_le_bytes(*x) as usize)
        .collect()
}

/// See [`World::gather`](super::World::gather).
pub fn gather(link: &mut dyn Link, mine: Vec<u8>) -> Vec<Vec<u8>> {
    let sizes = sizes(link, mine.len());
    if sizes.iter().all(|size| *size == mine.len()) {
        let all = link.gather(&mine);
        return match mine.len() {
            0 => vec![Vec::new(); sizes.len()],
            size => all.chunks(size).map(<[u8]>::to_vec).collect(),
        };
    }
    spread(link, mine, sizes)
}

/// Fewer bytes in all go from each to each without slices.
const FEW: usize = 1 << 16;

/// See [`World::spread`](super::World::spread).
pub fn spread(link: &mut dyn Link, mine: Vec<u8>, sizes: Vec<usize>) -> Vec<Vec<u8>> {
    if sizes.iter().sum::<usize>() < FEW {
        return directly(link, mine, sizes);
    }
    let (owned, slices) = (ranges(&sizes), slices(&sizes));
    let slice = redistribute(link, &mine, &owned, &slices);
    let all = directly(link, slice, slices.iter().map(Range::len).collect()).concat();
    owned.into_iter().map(|range| all[range].to_vec()).collect()
}

fn directly(link: &mut dyn Link, mine: Vec<u8>, sizes: Vec<usize>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); sizes.len()];
    for (to, from) in steps(link) {
        let mut theirs = vec![0; sizes[from]];
        link.exchange(to, &mine, from, &mut theirs);
        all[from] = theirs;
    }
    all[link.rank()] = mine;
    all
}

/// Neighbouring ranges of `sizes`.
fn ranges(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |size: &usize| {
        end += size;
        end - size..end
    };
    sizes.iter().map(range).collect()
}

/// What rank after rank owns `sizes` of, in ranges of one size, the last ones less; each of whole numbers of four
/// bytes. Two ranks gain nothing by that, and each slice is what its rank owns.
fn slices(sizes: &[usize]) -> Vec<Range<usize>> {
    let (n, ranks) = (sizes.iter().sum::<usize>(), sizes.len());
    if ranks < 3 {
        return ranges(sizes);
    }
    let size = n.div_ceil(ranks).next_multiple_of(4);
    let range = |rank: usize| (rank * size).min(n)..((rank + 1) * size).min(n);
    (0..ranks).map(range).collect()
}

/// Each rank has the bytes `before` of something and gets those `after`; `held` is what this one has.
fn redistribute(
    link: &mut dyn Link,
    held: &[u8],
    before: &[Range<usize>],
    after: &[Range<usize>],
) -> Vec<u8> {
    let rank = link.rank();
    let within = |a: &Range<usize>, b: &Range<usize>, origin: usize| {
        let (start, end) = (a.start.max(b.start), a.end.min(b.end));
        match start < end {
            true => start - origin..end - origin,
            false => 0..0,
        }
    };
    let (had, gets) = (before[rank].start, after[rank].start);
    let mut got = vec![0; after[rank].len()];
    let stays = (&before[rank], &after[rank]);
    got[within(stays.0, stays.1, gets)].copy_from_slice(&held[within(stays.0, stays.1, had)]);
    for (to, from) in steps(link) {
        let out = &held[within(&before[rank], &after[to], had)];
        let into = &mut got[within(&before[from], &after[rank], gets)];
        link.exchange(to, out, from, into);
    }
    got
}

/// See [`World::broadcast`](super::World::broadcast).
pub fn broadcast(link: &mut dyn Link, mine: Vec<u8>) -> Vec<u8> {
    let size = sizes(link, mine.len())[0];
    let mut bytes = match link.rank() {
        0 => mine,
        _ => vec![0; size],
    };
    link.broadcast(&mut bytes);
    bytes
}

/// See [`World::collect`](super::World::collect).
pub fn collect(link: &mut dyn Link, mine: Vec<u8>) -> Vec<Vec<u8>> {
    let sizes = sizes(link, mine.len());
    if link.rank() > 0 {
        link.exchange(0, &mine, 0, &mut []);
        return Vec::new();
    }
    let mut all = vec![mine];
    for (from, size) in sizes.into_iter().enumerate().skip(1) {
        let mut theirs = vec![0; size];
        link.exchange(from, &[], from, &mut theirs);
        all.push(theirs);
    }
    all
}

/// See [`World::scatter`](super::World::scatter).
pub fn scatter(link: &mut dyn Link, mut each: Vec<Vec<u8>>) -> Vec<u8> {
    let sizes: Vec<u64> = each.iter().map(|bytes| bytes.len() as u64).collect();
    let sizes = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    let sizes = broadcast(link, sizes);
    if link.rank() > 0 {
        let (eights, _) = sizes.as_chunks::<8>();
        let size = eights
            .get(link.rank())
            .map_or(0, |x| u64::from_le_bytes(*x));
        let mut mine = vec![0; size as usize];
        link.exchange(0, &[], 0, &mut mine);
        return mine;
    }
    for (to, bytes) in each.iter().enumerate().skip(1) {
        link.exchange(to, bytes, to, &mut []);
    }
    match each.is_empty() {
        true => Vec::new(),
        false => each.swap_remove(0),
    }
}

/// See [`World::trade`](super::World::trade).
pub fn trade(link: &mut dyn Link, mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let rank = link.rank();
    let size = parts[rank].len();
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); parts.len()];
    for (to, from) in steps(link) {
        let mut theirs = vec![0; size];
        link.exchange(to, &parts[to], from, &mut theirs);
        all[from] = theirs;
    }
    all[rank] = std::mem::take(&mut parts[rank]);
    all
}

/// See [`World::reduce`](super::World::reduce).
pub fn reduce(link: &mut dyn Link, parts: Vec<Vec<f32>>) -> Vec<f32> {
    let sizes: Vec<usize> = parts.iter().map(|part| 4 * part.len()).collect();
    let flat = parts.concat();
    let slices = slices(&sizes);
    let slice = sum(link, bytemuck::cast_slice(&flat), &slices);
    let mine = redistribute(link, bytemuck::cast_slice(&slice), &slices, &ranges(&sizes));
    bytemuck::pod_collect_to_vec(&mine)
}

/// The sum over the ranks of this rank's slice of their numbers, of which `mine` is this rank's.
fn sum(link: &mut dyn Link, mine: &[u8], slices: &[Range<usize>]) -> Vec<f32> {
    let rank = link.rank();
    let most = slices.iter().map(Range::len).max().unwrap_or(0);
    let mut sum = Vec::new();
    for start in (0..most).step_by(CHUNK) {
        let piece = |rank: usize| {
            let slice = &slices[rank];
            let end = slice.end.min(slice.start + start + CHUNK);
            end.min(slice.start + start)..end
        };
        let length = piece(rank).len();
        let mut theirs: Vec<Vec<u8>> = vec![Vec::new(); slices.len()];
        for (to, from) in steps(link) {
            theirs[from] = vec![0; length];
            link.exchange(to, &mine[piece(to)], from, &mut theirs[from]);
        }
        theirs[rank] = mine[piece(rank)].to_vec();
        let mut theirs = theirs
            .iter()
            .map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(bytes));
        let mut total = theirs.next().unwrap_or_default();
        for more in theirs {
            for (x, y) in total.iter_mut().zip(more) {
                *x += y;
            }
        }
        sum.extend(total);
    }
    sum
}
