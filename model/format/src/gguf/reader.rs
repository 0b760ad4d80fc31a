//! The bytes of a GGUF header and how far they have been read.
//!
//! In: bytes that may be anything at all; out: little-endian numbers and strings, never past the end. Errors are plain
//! texts, to which the caller adds the file's name.

use std::fmt::Display;

/// A result of parsing; the error says what is wrong and what to do.
pub(super) type Parsed<T> = Result<T, String>;

/// What a broken file is.
pub(super) const CUT_SHORT: &str = "the file is cut short or damaged; fetch or export it again";

/// A scalar type of the specification.
pub(super) trait Scalar: Sized {
    /// The least bytes that one takes.
    const LEAST: usize;

    /// Reads one, which errors call `what`.
    fn read(r: &mut Reader, what: &dyn Display) -> Parsed<Self>;

    /// Appends one.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($ty:ty),*) => { $(
        impl Scalar for $ty {
            const LEAST: usize = size_of::<$ty>();

            fn read(r: &mut Reader, what: &dyn Display) -> Parsed<Self> {
                let bytes = r.take(Self::LEAST, what)?;
                let bytes = bytes.try_into().map_err(|_| format!("{what}: no number; {CUT_SHORT}"))?;
                Ok(Self::from_le_bytes(bytes))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )* };
}

numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Scalar for bool {
    const LEAST: usize = 1;

    fn read(r: &mut Reader, what: &dyn Display) -> Parsed<Self> {
        Ok(u8::read(r, what)? != 0)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Scalar for String {
    const LEAST: usize = 8;

    fn read(r: &mut Reader, what: &dyn Display) -> Parsed<Self> {
        r.string(usize::MAX, what)
    }

    fn write(&self, out: &mut Vec<u8>) {
        string(out, self);
    }
}

/// Appends a string: its length and its bytes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    (text.len() as u64).write(out);
    out.extend(text.as_bytes());
}

/// The bytes and how far they have been read.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, n: usize, what: &dyn Display) -> Parsed<&'a [u8]> {
        if n > self.left() {
            return Err(format!(
                "ends at byte {} inside {what}; {CUT_SHORT}",
                self.bytes.len()
            ));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    pub(super) fn u32(&mut self, what: &str) -> Parsed<u32> {
        u32::read(self, &what)
    }

    pub(super) fn u64(&mut self, what: &str) -> Parsed<u64> {
        u64::read(self, &what)
    }

    /// A count of things that take at least `least` bytes each, held against what is left of the file.
    pub(super) fn bounded(&self, n: u64, least: usize, what: &dyn Display) -> Parsed<usize> {
        match usize::try_from(n) {
            Ok(n) if n <= self.left() / least => Ok(n),
            _ => Err(format!(
                "{what}: {n} elements do not fit the {} bytes left of the file; {CUT_SHORT}",
                self.left()
            )),
        }
    }

    /// A string of at most `longest` bytes.
    pub(super) fn string(&mut self, longest: usize, what: &dyn Display) -> Parsed<String> {
        let n = self.u64("a string's length")?;
        match usize::try_from(n) {
            Ok(n) if n <= longest && n <= self.left() => {
                let bytes = self.take(n, &"a string")?;
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| format!("{what} is not UTF-8; {CUT_SHORT}"))?;
                Ok(text.to_owned())
            }
            _ => Err(format!(
                "{what}: a string of {n} bytes does not fit the file; {CUT_SHORT}"
            )),
        }
    }
}
