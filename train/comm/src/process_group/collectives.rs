//! Collective operations, made of messages between two ranks.
//!
//! In step s of an exchange rank r sends to r + s and receives from r − s, so that every rank sends and receives
//! all the time. Sums are added in the ranks' order, whichever rank's numbers arrive first.
//!
//! The parts of a collective may be uneven: one rank owns the largest parameter. The bytes are therefore cut into
//! equal slices, one a rank, and each rank adds up or passes on its own slice; between slices and owners a number
//! moves at most once more ([`redistribute`]).

use std::ops::Range;

use super::transport::Transport;

/// Bytes of a sum in flight at once, from each rank: bounds the memory of an exchange.
const CHUNK: usize = 1 << 20;

/// The ranks that this one sends to and receives from, step by step.
fn steps(transport: &dyn Transport) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rank, size) = (transport.rank(), transport.size());
    (1..size).map(move |s| ((rank + s) % size, (rank + size - s) % size))
}

/// The number of bytes that each rank brings.
fn sizes(transport: &mut dyn Transport, mine: usize) -> Vec<usize> {
    let all = transport.all_gather(&(mine as u64).to_le_bytes());
    let (eights, _) = all.as_chunks::<8>();
    eights
        .iter()
        .map(|x| u64::from_le_bytes(*x) as usize)
        .collect()
}

/// See [`ProcessGroup::all_gather`](super::ProcessGroup::all_gather).
pub fn all_gather(transport: &mut dyn Transport, mine: Vec<u8>) -> Vec<Vec<u8>> {
    let sizes = sizes(transport, mine.len());
    if sizes.iter().all(|size| *size == mine.len()) {
        let all = transport.all_gather(&mine);
        return match mine.len() {
            0 => vec![Vec::new(); sizes.len()],
            size => all.chunks(size).map(<[u8]>::to_vec).collect(),
        };
    }
    all_gather_v(transport, mine, sizes)
}

/// Below so many bytes in all, each rank sends its whole part to each other rank, without slices.
const DIRECT_BELOW: usize = 1 << 16;

/// See [`ProcessGroup::all_gather_v`](super::ProcessGroup::all_gather_v).
pub fn all_gather_v(
    transport: &mut dyn Transport,
    mine: Vec<u8>,
    sizes: Vec<usize>,
) -> Vec<Vec<u8>> {
    if sizes.iter().sum::<usize>() < DIRECT_BELOW {
        return exchange_whole(transport, mine, sizes);
    }
    let (owned, slices) = (ranges(&sizes), slices(&sizes));
    let slice = redistribute(transport, &mine, &owned, &slices);
    let all = exchange_whole(transport, slice, slices.iter().map(Range::len).collect()).concat();
    owned.into_iter().map(|range| all[range].to_vec()).collect()
}

fn exchange_whole(transport: &mut dyn Transport, mine: Vec<u8>, sizes: Vec<usize>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); sizes.len()];
    for (to, from) in steps(transport) {
        let mut theirs = vec![0; sizes[from]];
        transport.send_receive(to, &mine, from, &mut theirs);
        all[from] = theirs;
    }
    all[transport.rank()] = mine;
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

/// The bytes of all ranks' `sizes` in equal ranges, one a rank, each a multiple of four bytes but the last. Two ranks
/// gain nothing by equal slices: theirs are what each owns.
fn slices(sizes: &[usize]) -> Vec<Range<usize>> {
    let (n, ranks) = (sizes.iter().sum::<usize>(), sizes.len());
    if ranks < 3 {
        return ranges(sizes);
    }
    let size = n.div_ceil(ranks).next_multiple_of(4);
    let range = |rank: usize| (rank * size).min(n)..((rank + 1) * size).min(n);
    (0..ranks).map(range).collect()
}

/// Moves bytes between two divisions of one buffer: rank r holds range `before[r]` and receives `after[r]`. `held` is
/// what this rank holds.
fn redistribute(
    transport: &mut dyn Transport,
    held: &[u8],
    before: &[Range<usize>],
    after: &[Range<usize>],
) -> Vec<u8> {
    let rank = transport.rank();
    let within = |a: &Range<usize>, b: &Range<usize>, origin: usize| {
        let (start, end) = (a.start.max(b.start), a.end.min(b.end));
        if start < end {
            start - origin..end - origin
        } else {
            0..0
        }
    };
    let (had, gets) = (before[rank].start, after[rank].start);
    let mut got = vec![0; after[rank].len()];
    let stays = (&before[rank], &after[rank]);
    got[within(stays.0, stays.1, gets)].copy_from_slice(&held[within(stays.0, stays.1, had)]);
    for (to, from) in steps(transport) {
        let out = &held[within(&before[rank], &after[to], had)];
        let into = &mut got[within(&before[from], &after[rank], gets)];
        transport.send_receive(to, out, from, into);
    }
    got
}

/// See [`ProcessGroup::broadcast`](super::ProcessGroup::broadcast).
pub fn broadcast(transport: &mut dyn Transport, mine: Vec<u8>) -> Vec<u8> {
    let size = sizes(transport, mine.len())[0];
    let mut bytes = match transport.rank() {
        0 => mine,
        _ => vec![0; size],
    };
    transport.broadcast(&mut bytes);
    bytes
}

/// See [`ProcessGroup::gather`](super::ProcessGroup::gather).
pub fn gather(transport: &mut dyn Transport, mine: Vec<u8>) -> Vec<Vec<u8>> {
    let sizes = sizes(transport, mine.len());
    if transport.rank() > 0 {
        transport.send_receive(0, &mine, 0, &mut []);
        return Vec::new();
    }
    let mut all = vec![mine];
    for (from, size) in sizes.into_iter().enumerate().skip(1) {
        let mut theirs = vec![0; size];
        transport.send_receive(from, &[], from, &mut theirs);
        all.push(theirs);
    }
    all
}

/// See [`ProcessGroup::scatter`](super::ProcessGroup::scatter).
pub fn scatter(transport: &mut dyn Transport, mut each: Vec<Vec<u8>>) -> Vec<u8> {
    let sizes: Vec<u64> = each.iter().map(|bytes| bytes.len() as u64).collect();
    let sizes = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    let sizes = broadcast(transport, sizes);
    if transport.rank() > 0 {
        let (eights, _) = sizes.as_chunks::<8>();
        let size = eights
            .get(transport.rank())
            .map_or(0, |x| u64::from_le_bytes(*x));
        let mut mine = vec![0; size as usize];
        transport.send_receive(0, &[], 0, &mut mine);
        return mine;
    }
    for (to, bytes) in each.iter().enumerate().skip(1) {
        transport.send_receive(to, bytes, to, &mut []);
    }
    if each.is_empty() {
        Vec::new()
    } else {
        each.swap_remove(0)
    }
}

/// See [`ProcessGroup::all_to_all`](super::ProcessGroup::all_to_all).
pub fn all_to_all(transport: &mut dyn Transport, mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let rank = transport.rank();
    let size = parts[rank].len();
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); parts.len()];
    for (to, from) in steps(transport) {
        let mut theirs = vec![0; size];
        transport.send_receive(to, &parts[to], from, &mut theirs);
        all[from] = theirs;
    }
    all[rank] = std::mem::take(&mut parts[rank]);
    all
}

/// See [`ProcessGroup::reduce_scatter`](super::ProcessGroup::reduce_scatter).
pub fn reduce_scatter(transport: &mut dyn Transport, parts: Vec<Vec<f32>>) -> Vec<f32> {
    let sizes: Vec<usize> = parts.iter().map(|part| 4 * part.len()).collect();
    let flat = parts.concat();
    let slices = slices(&sizes);
    let slice = sum_slice(transport, bytemuck::cast_slice(&flat), &slices);
    let mine = redistribute(
        transport,
        bytemuck::cast_slice(&slice),
        &slices,
        &ranges(&sizes),
    );
    bytemuck::pod_collect_to_vec(&mine)
}

/// The sum over the ranks, in their order, of this rank's slice; `mine` are this rank's numbers of all slices.
fn sum_slice(transport: &mut dyn Transport, mine: &[u8], slices: &[Range<usize>]) -> Vec<f32> {
    let rank = transport.rank();
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
        for (to, from) in steps(transport) {
            theirs[from] = vec![0; length];
            transport.send_receive(to, &mine[piece(to)], from, &mut theirs[from]);
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
