//! The characters that spell bytes in a byte-level vocabulary.

/// The character for each byte (GPT-2's `encoder.py`): printable Latin-1 for itself, the other
/// bytes, in order, U+0100 and up.
pub fn byte_alphabet() -> [char; 256] {
    let mut moved = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        own @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(own),
        _ => moved.next().unwrap_or_default(),
    })
}
