//! The hash by which the hub names a file's content, and which names its blob in the cache.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use sha2::digest::DynDigest;

/// A digest in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Digest {
    /// Of the bytes: files in large file storage, which all parquet is.
    Sha256(String),
    /// Git's name of a blob, SHA-1 over `blob SIZE\0` and the bytes: small text files.
    GitBlob(String),
}

impl Digest {
    /// Reads a digest from its digits; `None` if they are no digits of a known digest.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::GitBlob(text)),
            _ => None,
        }
    }

    /// The digits, by which the cache names the blob.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// Begins to hash `size` bytes with the same function.
    pub fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher(Box::new(sha2::Sha256::new())),
            Self::GitBlob(_) => {
                let start = format!("blob {size}\0");
                Hasher(Box::new(sha1::Sha1::new_with_prefix(start)))
            }
        }
    }
}

/// A digest in the making.
pub(crate) struct Hasher(Box<dyn DynDigest + Send>);

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digits of all bytes taken in.
    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_known_bytes() {
        // `printf hello | git hash-object --stdin` and `printf hello | sha256sum`.
        let git = Digest::from_hex("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0").unwrap();
        let sha =
            Digest::from_hex("2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824")
                .unwrap();
        for digest in [git, sha] {
            let mut hasher = digest.hasher(5);
            hasher.update(b"hel");
            hasher.update(b"lo");
            assert_eq!(hasher.hex(), digest.hex());
        }
        for wrong in ["", "../../x", "b6fc", &"g".repeat(40)] {
            assert_eq!(Digest::from_hex(wrong), None);
        }
    }
}
