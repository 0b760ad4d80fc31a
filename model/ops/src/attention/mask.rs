//! Attention masks: which keys each query sees, and where packed documents lie in a batch.

/// Which keys the queries of a forward pass see.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'a> {
    /// The positions up to the query in its row.
    Causal,
    /// The positions up to the query in its document.
    Packed(&'a Documents),
    /// So many cached positions, and the positions up to the query in its row.
    Cached(usize),
}

/// Documents packed into the rows of a batch `[B, T]`. Attention does not cross from one
/// into another, and rotary positions start again in each.
#[derive(Clone, Debug)]
pub struct Documents {
    rows: usize,
    length: usize,
    positions: Vec<i32>,
    /// For each position, the first position of its document in the row.
    starts: Vec<usize>,
}

impl Documents {
    /// `segments` says which document a position belongs to (any number: a document is a run
    /// of equal ones), `positions` how far into it; both `[rows, length]` row by row.
    ///
    /// # Panics
    /// Their lengths are not `rows · length`.
    pub fn new(segments: &[i32], positions: &[i32], [rows, length]: [usize; 2]) -> Self {
        assert_eq!(segments.len(), rows * length, "a segment for each position");
        assert_eq!(
            positions.len(),
            rows * length,
            "a position in the document for each"
        );
        let mut starts = Vec::with_capacity(segments.len());
        for row in segments.chunks(length.max(1)) {
            let mut start = 0;
            for t in 0..row.len() {
                if t > 0 && row[t] != row[t - 1] {
                    start = t;
                }
                starts.push(start);
            }
        }
        Self {
            rows,
            length,
            positions: positions.to_vec(),
            starts,
        }
    }

    /// `[B, T]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.length]
    }

    /// Positions in the document, which RoPE rotates by, row by row.
    pub fn positions(&self) -> impl Iterator<Item = usize> + Clone {
        self.positions.iter().map(|&p| p.max(0) as usize)
    }

    /// The first key that each position sees, row by row.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The first key that queries `first..end` of any row see.
    pub(super) fn first_key(&self, first: usize, end: usize) -> usize {
        (0..self.rows)
            .flat_map(|row| &self.starts[row * self.length + first..row * self.length + end])
            .copied()
            .min()
            .unwrap_or(first)
    }

    /// For queries `first..end` and keys `key..end` of every row: true where the key is masked for
    /// the query, `[B, end − first, end − key]` row by row.
    pub(super) fn masked(&self, first: usize, end: usize, key: usize) -> Vec<bool> {
        let mut mask = Vec::with_capacity(self.rows * (end - first) * (end - key));
        for row in self.starts.chunks(self.length) {
            for (query, &start) in (first..end).zip(&row[first..end]) {
                mask.extend((key..end).map(|k| k > query || k < start));
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_mask_lets_a_query_see_its_own_document_up_to_itself() {
        let d = Documents::new(
            &[7, 7, 8, 8, 8, 3, 3, 3, 3, 4],
            &[0, 1, 0, 1, 2, 0, 1, 2, 3, 0],
            [2, 5],
        );
        assert_eq!(d.first_key(2, 4), 0);
        assert_eq!(d.first_key(4, 5), 2);
        let mask = d.masked(3, 5, 1);
        let rows: Vec<String> = mask
            .chunks(4)
            .map(|r| r.iter().map(|&f| if f { '.' } else { 'x' }).collect())
            .collect();
        assert_eq!(rows, [".xx.", ".xxx", "xxx.", "...x"]);
    }
}
