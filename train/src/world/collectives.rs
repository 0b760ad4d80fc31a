//! What the ranks do together, made of messages between two of them.
//!
//! In step s of an exchange rank r sends to r + s and hears from r − s, so that every rank sends and receives
//! all the time and as much as any other. What is added up is added in the ranks' order, whoever's was there first.

use super::link::Link;

/// Numbers of a sum that are on their way at once, from each rank: what bounds the memory of an exchange.
const CHUNK: usize = 1 << 18;

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

/// See [`World::spread`](super::World::spread).
pub fn spread(link: &mut dyn Link, mine: Vec<u8>, sizes: Vec<usize>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); sizes.len()];
    for (to, from) in steps(link) {
        let mut theirs = vec![0; sizes[from]];
        link.exchange(to, &mine, from, &mut theirs);
        all[from] = theirs;
    }
    all[link.rank()] = mine;
    all
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
    let rank = link.rank();
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    let mine = parts[rank].len();
    let mut sum = Vec::with_capacity(mine);
    for start in (0..most).step_by(CHUNK) {
        let piece = |n: usize| start.min(n)..(start + CHUNK).min(n);
        let mut theirs: Vec<Vec<f32>> = vec![Vec::new(); parts.len()];
        for (to, from) in steps(link) {
            theirs[from] = vec![0.0; piece(mine).len()];
            let out = &parts[to][piece(parts[to].len())];
            let into = bytemuck::cast_slice_mut(&mut theirs[from]);
            link.exchange(to, bytemuck::cast_slice(out), from, into);
        }
        theirs[rank] = parts[rank][piece(mine)].to_vec();
        let mut theirs = theirs.into_iter();
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
