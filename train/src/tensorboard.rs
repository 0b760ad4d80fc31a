//! Scalars in TensorBoard's event files, `events.out.tfevents.*`. No maintained crate writes them (`tensorboard-rs`: no
//! release since 2022; `tfrecord`: with its own protocol-buffer and async stack).
//!
//! A file is a sequence of TFRecords: the length of the data as a little-endian u64, the masked
//! CRC-32C of those eight bytes, the data, its masked CRC-32C. The data is a protocol buffer,
//! `tensorflow.Event` (tensorboard/compat/proto/event.proto, version "brain.Event:2").

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// The events of one start of a run; a resumed run opens another file beside it.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Opens a new file in `run` for the steps after `step`: TensorBoard drops what earlier files
    /// say of those.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let now = seconds();
        // Files are read in the order of their names.
        let name = format!(
            "events.out.tfevents.{:010}.{step:012}.{}",
            now as u64,
            std::process::id()
        );
        let path = run.join(name);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        let mut events = Self { path, file };
        let mut version = Message::default();
        version.bytes(FILE_VERSION, b"brain.Event:2");
        events.write(now, 0, version)?;
        let mut start = Message::default();
        start.varint(SESSION_STATUS, SESSION_START);
        let mut session = Message::default();
        session.bytes(SESSION_LOG, &start.0);
        events.write(now, step + 1, session)?;
        Ok(events)
    }

    /// Writes the named values of `step`.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut one = Message::default();
            one.bytes(VALUE_TAG, tag.as_bytes());
            one.float(VALUE_SIMPLE, *value as f32);
            summary.bytes(SUMMARY_VALUE, &one.0);
        }
        let mut event = Message::default();
        event.bytes(SUMMARY, &summary.0);
        self.write(seconds(), step, event)
    }

    fn write(&mut self, time: f64, step: u64, what: Message) -> Result<()> {
        let mut event = Message::default();
        event.double(WALL_TIME, time);
        event.varint(STEP, step);
        event.0.extend(what.0);
        // One write a record: a reader that looks on finds it whole or not at all.
        self.file
            .write_all(&record(&event.0))
            .map_err(Error::io(&self.path))
    }
}

// Field numbers: of Event, of Summary, of Summary.Value, of SessionLog.
const WALL_TIME: u32 = 1;
const STEP: u32 = 2;
const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
const SUMMARY_VALUE: u32 = 1;
const VALUE_TAG: u32 = 1;
const VALUE_SIMPLE: u32 = 2;
const SESSION_STATUS: u32 = 1;
const SESSION_START: u64 = 1;

/// A protocol buffer in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw(u64::from(field << 3 | wire_type));
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.raw(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from the rules of the wire format: `Value(tag="loss", simple_value=0.25)` and
    /// `Event(wall_time=1.5, step=300)`.
    #[test]
    fn tensorboard_event_is_encoded_as_protobuf() {
        let mut value = Message::default();
        value.bytes(VALUE_TAG, b"loss");
        value.float(VALUE_SIMPLE, 0.25);
        assert_eq!(value.0, b"\x0a\x04loss\x15\x00\x00\x80\x3e");
        let mut event = Message::default();
        event.double(WALL_TIME, 1.5);
        event.varint(STEP, 300);
        assert_eq!(event.0, b"\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\xac\x02");
    }

    /// CRC-32C of "123456789" is 0xe3069283 (RFC 3720, appendix B.4, and the CRC catalogue).
    #[test]
    fn tensorboard_records_have_masked_checksums() {
        let expected = 0xe306_9283_u32
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
            .to_le_bytes();
        let record = record(b"123456789");
        assert_eq!(record[..8], 9u64.to_le_bytes());
        assert_eq!(&record[12..21], b"123456789");
        assert_eq!(record[21..], expected);
    }

    #[test]
    fn tensorboard_file_holds_a_version_a_session_and_scalars() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = Events::open(dir.path(), 7).unwrap();
        events.scalars(8, &[("loss", 1.0), ("lr", 2.0)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + length];
            let crc = u32::from_le_bytes(bytes[at + 12 + length..][..4].try_into().unwrap());
            assert_eq!(crc, masked_crc(data));
            found.push(data.to_vec());
            at += length + 16;
        }
        assert_eq!(found.len(), 3);
        assert!(found[0].ends_with(b"brain.Event:2"));
        assert!(found[1].ends_with(&[0x10, 8, 0x3a, 2, 8, 1]));
        assert!(found[2].windows(4).any(|w| w == b"loss"));
    }
}
