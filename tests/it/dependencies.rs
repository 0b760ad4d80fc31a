//! Holds the graph of the workspace's crates to the design: which crate may depend on which, and which of other
//! people's crates stay out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

/// Each of retort's crates, and those that it may depend on by itself; `retort` may use all.
const ALLOWED: &[(&str, &str)] = &[
    ("files", ""),
    ("format", "files"),
    ("ops", "format"),
    ("model", "files format ops"),
    ("tokenizer", "files"),
    ("data", "files tokenizer"),
    ("comm", "files"),
    ("train", "files format ops model tokenizer data comm"),
    ("prune", "files format model tokenizer data"),
    (
        "distill",
        "files format ops model tokenizer data comm train prune engine",
    ),
    ("kernels", "format"),
    ("engine", "files format tokenizer kernels"),
    ("convert", "files format tokenizer kernels engine"),
    ("serve", "files format tokenizer kernels engine"),
    (
        "edge",
        "files format tokenizer kernels engine convert serve",
    ),
    ("eval", "files format model tokenizer data engine"),
];

/// Crates, and other people's crates that a build of them must not need. `burn*` is every name with that start.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "files format tokenizer data kernels engine convert serve edge",
        "burn* cubecl*",
    ),
    (
        "files format tokenizer data comm ops model train prune distill kernels engine convert",
        "axum hyper rustyline tokio",
    ),
    ("train distill engine", "clap"),
    // Crates that compile C or C++, or look for a compiler.
    ("edge", "aws-lc-sys bindgen cc cmake onig_sys ring zstd-sys"),
];

/// What `cargo metadata` prints, as far as it is needed here (format version 1).
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

/// `None` for a normal dependency, else `build` or `dev`.
#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// The packages that a build of the workspace needs, without those of tests and benches. Packages are known by
/// their ids.
struct Graph {
    names: BTreeMap<String, String>,
    /// The normal and build dependencies of each package.
    needs: BTreeMap<String, Vec<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked"])
            .args(["--filter-platform", &platform])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
        let is_needed = |dependency: &Dependency| {
            let mut kinds = dependency.dep_kinds.iter();
            kinds.any(|kind| kind.kind.as_deref() != Some("dev"))
        };
        let needs = |node: Node| {
            let needed = node.deps.into_iter().filter(is_needed);
            (node.id, needed.map(|dependency| dependency.pkg).collect())
        };
        Self {
            needs: metadata.resolve.nodes.into_iter().map(needs).collect(),
            names: (metadata.packages.into_iter())
                .map(|package| (package.id, package.name))
                .collect(),
            members: metadata.workspace_members.into_iter().collect(),
        }
    }

    /// The workspace's crates, but those of tests.
    fn members(&self) -> BTreeSet<&str> {
        let names = self.members.iter().map(|id| &self.names[id][..]);
        names.filter(|name| *name != "retort-test-kit").collect()
    }

    fn id(&self, name: &str) -> Option<&String> {
        let mut members = self.members.iter();
        members.find(|id| self.names[*id] == name)
    }

    /// The direct dependencies of `name`.
    fn needs(&self, name: &str) -> BTreeSet<&str> {
        let ids = self.id(name).map(|id| &self.needs[id][..]);
        let names = ids.unwrap_or_default().iter();
        names.map(|id| &self.names[id][..]).collect()
    }

    /// All packages that a build of `name` needs.
    fn all_needs(&self, name: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<&String> = self.id(name).into_iter().collect();
        while let Some(id) = queue.pop() {
            if seen.insert(id) {
                queue.extend(&self.needs[id]);
            }
        }
        seen.into_iter().map(|id| &self.names[id][..]).collect()
    }
}

#[test]
fn crates_depend_only_on_the_crates_that_the_design_allows() {
    let graph = Graph::read();
    for member in graph.members() {
        let Some(short) = member.strip_prefix("retort-") else {
            continue;
        };
        let line = ALLOWED.iter().find(|(name, _)| *name == short);
        let (_, allowed) = line.unwrap_or_else(|| panic!("{member} has no line in ALLOWED"));
        for needed in graph.needs(member) {
            let ours = needed.strip_prefix("retort-");
            let is_allowed =
                ours.is_none_or(|needed| allowed.split(' ').any(|name| name == needed));
            assert!(is_allowed, "{member} depends on {needed}");
        }
    }
}

#[test]
fn crates_build_without_what_the_design_keeps_out_of_them() {
    let graph = Graph::read();
    for (crates, forbidden) in FORBIDDEN {
        for name in crates.split(' ') {
            let needs = graph.all_needs(&format!("retort-{name}"));
            let is_forbidden = |needed: &&&str| {
                let mut forbidden = forbidden.split(' ');
                forbidden.any(|name| match name.strip_suffix('*') {
                    Some(prefix) => needed.starts_with(prefix),
                    None => **needed == name,
                })
            };
            assert_eq!(needs.iter().find(is_forbidden), None, "retort-{name}");
        }
    }
    // The graph that was walked is the whole one.
    assert!(graph.all_needs("retort-train").contains("burn"));
    assert!(graph.all_needs("retort-serve").contains("axum"));
}
