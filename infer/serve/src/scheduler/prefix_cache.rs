//! The prefix cache: pages of keys and values, shared by requests whose texts begin alike.
//!
//! The pages are a tree: a node has 32 tokens, which follow its parent's, and their keys and
//! values. A request acquires the nodes of its longest cached prefix and computes the rest. Nodes that no
//! request uses stay until their room is needed; the least recently used leaf is evicted first.

use std::collections::HashMap;

use retort_engine::decoder::{PAGE, Page};

/// What identifies a node: its parent, and its own tokens.
type Key = (Option<usize>, [u32; PAGE]);

#[derive(Debug)]
struct Node {
    key: Key,
    page: Page,
    children: usize,
    /// Running requests whose texts go through it.
    users: usize,
    /// When it was last acquired or released, by the cache's clock.
    used: u64,
}

/// All cached pages, and how many more are reserved.
#[derive(Debug)]
pub(super) struct PrefixCache {
    nodes: HashMap<usize, Node>,
    children: HashMap<Key, usize>,
    /// Pages that there may be.
    capacity: usize,
    /// Pages reserved by running requests, beside the nodes.
    reserved: usize,
    /// Nodes that no running request uses.
    idle: usize,
    next: usize,
    clock: u64,
}

/// The nodes of a text, from the root on.
pub(super) type NodePath = Vec<usize>;

impl PrefixCache {
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

    /// The nodes of the longest cached prefix of `tokens`, up to `max` of them.
    pub(super) fn find(&self, tokens: &[u32], max: usize) -> NodePath {
        let mut path = NodePath::new();
        for tokens in tokens.as_chunks::<PAGE>().0.iter().take(max) {
            let Some(&node) = self.children.get(&(path.last().copied(), *tokens)) else {
                break;
            };
            path.push(node);
        }
        path
    }

    /// The keys and values along `path`.
    pub(super) fn pages(&self, path: &NodePath) -> Vec<Page> {
        (path.iter())
            .filter_map(|node| Some(self.nodes.get(node)?.page.clone()))
            .collect()
    }

    /// Keeps the nodes of `path` from being evicted until they are released.
    pub(super) fn acquire(&mut self, path: &[usize]) {
        self.clock += 1;
        for node in path {
            if let Some(node) = self.nodes.get_mut(node) {
                self.idle -= usize::from(node.users == 0);
                node.users += 1;
                node.used = self.clock;
            }
        }
    }

    /// Gives the nodes of `path` back.
    pub(super) fn release(&mut self, path: &[usize]) {
        self.clock += 1;
        for node in path {
            if let Some(node) = self.nodes.get_mut(node) {
                node.users -= 1;
                self.idle += usize::from(node.users == 0);
                node.used = self.clock;
            }
        }
    }

    /// Reserves `n` pages, for which unused nodes may be evicted. Returns whether there was room.
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

    /// Gives `n` reserved pages back.
    pub(super) fn unreserve(&mut self, n: usize) {
        self.reserved -= n;
    }

    /// Adds the page that follows `path` and acquires it. Returns whether it is new, in place of a
    /// reserved one.
    pub(super) fn extend(
        &mut self,
        path: &mut NodePath,
        tokens: &[u32; PAGE],
        page: impl FnOnce() -> Option<Page>,
    ) -> bool {
        let key = (path.last().copied(), *tokens);
        if let Some(&node) = self.children.get(&key) {
            self.acquire(&[node]);
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
            users: 1,
            used: self.clock,
        };
        self.children.insert(key, id);
        self.nodes.insert(id, node);
        self.reserved -= 1;
        path.push(id);
        true
    }

    /// Drops the least recently used leaf. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let nodes = self.nodes.iter();
        let free = nodes.filter(|(_, node)| node.users == 0 && node.children == 0);
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

    /// Cached pages, and pages reserved beside them.
    pub(super) fn page_counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.reserved)
    }
}
