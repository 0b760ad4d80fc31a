//! Which pages of keys and values there are, and which texts they stand for.
//!
//! A tree of pages: a node is 32 tokens after its parent's, with their keys and values. A request that begins like an
//! earlier one holds the nodes they have in common and computes the rest. Nodes that nobody holds stay until their
//! room is needed; those not used for longest go first, from the leaves.

use std::collections::HashMap;

use retort_engine::decoder::{PAGE, Page};

/// What a node stands for: its parent, and the tokens after it.
type Key = (Option<usize>, [u32; PAGE]);

#[derive(Debug)]
struct Node {
    key: Key,
    page: Page,
    children: usize,
    /// Running requests that go through it.
    holders: usize,
    /// When it was last asked for.
    used: u64,
}

/// All pages.
#[derive(Debug)]
pub(super) struct Pages {
    nodes: HashMap<usize, Node>,
    children: HashMap<Key, usize>,
    /// Pages that there may be.
    capacity: usize,
    /// Pages promised to running requests, beside the nodes.
    reserved: usize,
    /// Nodes without a holder.
    idle: usize,
    next: usize,
    clock: u64,
}

/// The nodes a request goes through, from the root on.
pub(super) type Path = Vec<usize>;

impl Pages {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            children: HashMap::new(),
            capacity,
            reserved: 0,
            idle: 0,
            next: 0,
            clock: 0,
        }
    }

    /// The nodes of the longest known beginning of `tokens`, up to `most` of them.
    pub(super) fn find(&self, tokens: &[u32], most: usize) -> Path {
        let mut path = Path::new();
        for tokens in tokens.as_chunks::<PAGE>().0.iter().take(most) {
            let Some(&node) = self.children.get(&(path.last().copied(), *tokens)) else {
                break;
            };
            path.push(node);
        }
        path
    }

    /// The keys and values along `path`.
    pub(super) fn pages(&self, path: &Path) -> Vec<Page> {
        (path.iter())
            .filter_map(|node| Some(self.nodes.get(node)?.page.clone()))
            .collect()
    }

    /// Keeps the nodes of `path` until they are let go.
    pub(super) fn hold(&mut self, path: &[usize]) {
        self.clock += 1;
        for node in path {
            if let Some(node) = self.nodes.get_mut(node) {
                self.idle -= usize::from(node.holders == 0);
                node.holders += 1;
                node.used = self.clock;
            }
        }
    }

    /// Lets the nodes of `path` go.
    pub(super) fn release(&mut self, path: &[usize]) {
        self.clock += 1;
        for node in path {
            if let Some(node) = self.nodes.get_mut(node) {
                node.holders -= 1;
                self.idle += usize::from(node.holders == 0);
                node.used = self.clock;
            }
        }
    }

    /// Promises `n` pages, for which nodes may go; whether there was room.
    pub(super) fn reserve(&mut self, n: usize) -> bool {
        if self.nodes.len() - self.idle + self.reserved + n > self.capacity {
            return false;
        }
        while self.nodes.len() + self.reserved + n > self.capacity {
            if !self.evict() {
                return false;
            }
        }
        self.reserved += n;
        true
    }

    /// Takes a promise of `n` pages back.
    pub(super) fn unreserve(&mut self, n: usize) {
        self.reserved -= n;
    }

    /// Adds the page that follows `path` and holds it; whether it is new and takes the place of one promised.
    pub(super) fn extend(
        &mut self,
        path: &mut Path,
        tokens: &[u32; PAGE],
        page: impl FnOnce() -> Option<Page>,
    ) -> bool {
        let key = (path.last().copied(), *tokens);
        if let Some(&node) = self.children.get(&key) {
            self.hold(&[node]);
            path.push(node);
            return false;
        }
        let Some(page) = page() else {
            return false;
        };
        if let Some(parent) = key.0.and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children += 1;
        }
        let id = self.next;
        self.next += 1;
        let node = Node {
            key,
            page,
            children: 0,
            holders: 1,
            used: self.clock,
        };
        self.children.insert(key, id);
        self.nodes.insert(id, node);
        self.reserved -= 1;
        path.push(id);
        true
    }

    /// Drops the leaf that nobody has asked for for longest.
    fn evict(&mut self) -> bool {
        let free = self
            .nodes
            .iter()
            .filter(|(_, n)| n.holders == 0 && n.children == 0);
        let Some((&id, _)) = free.min_by_key(|(id, node)| (node.used, std::cmp::Reverse(**id)))
        else {
            return false;
        };
        if let Some(node) = self.nodes.remove(&id) {
            self.children.remove(&node.key);
            if let Some(parent) = node.key.0.and_then(|parent| self.nodes.get_mut(&parent)) {
                parent.children -= 1;
            }
            self.idle -= 1;
        }
        true
    }

    /// Pages kept, and pages promised beside them.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.reserved)
    }
}
