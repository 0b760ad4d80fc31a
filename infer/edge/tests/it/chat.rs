//! Conversations: what is computed again, what is kept when an answer is stopped, and the terminal's commands.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::program;
use assert_cmd::Command;
use retort_engine::Model;
use retort_engine::chat::{Conversation, Ended};
use retort_engine::sampling::Sampling;
use retort_engine::speculate::Speculation;
use retort_format::GgmlType;
use retort_test_kit::{Shape, write_gguf_changed};
use tempfile::TempDir;

const TEMPLATE: &str =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]";

fn model() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let shape = Shape {
        ty: GgmlType::Q8_0,
        ..Shape::default()
    };
    write_gguf_changed(&path, &shape, |writer| {
        writer.set("tokenizer.chat_template", TEMPLATE).unwrap();
    });
    (directory, path)
}

/// Draws whose text survives being tokenized again: single letters.
fn letters(model: &Model, seed: u64) -> Sampling {
    let plain = |id: u32| {
        let bytes = model.tokenizer.bytes(id);
        bytes.len() == 1 && bytes[0].is_ascii_uppercase()
    };
    let ids = (0..model.tokenizer.vocab_size() as u32).filter(|&id| !plain(id));
    Sampling {
        logit_bias: ids.map(|id| (id, f32::NEG_INFINITY)).collect(),
        seed,
        ..Sampling::plain()
    }
}

#[test]
fn a_conversation_is_computed_once() {
    let (_directory, path) = model();
    let model = Model::open(&path).unwrap();
    let mut conversation = Conversation::new(&model, 400).unwrap();
    conversation.set_system("be kind");
    let go = |_: &str| ControlFlow::Continue(());
    let first = conversation
        .reply("hello", 10, &letters(&model, 1), go)
        .unwrap();
    assert_eq!(
        (first.reused_tokens, first.tokens, first.ended),
        (0, 10, Ended::Length)
    );
    assert_eq!(first.text.len(), 10);
    let second = conversation
        .reply("again", 10, &letters(&model, 2), go)
        .unwrap();
    // everything but the answer's last token, which was never taken in
    assert_eq!(second.reused_tokens, first.prompt_tokens + 9);
    assert_eq!(conversation.messages().len(), 5);
    // the same words as a conversation that begins there
    let mut fresh = Conversation::new(&model, 400).unwrap();
    fresh.set_messages(conversation.messages()[..3].to_vec());
    let other = fresh.reply("again", 10, &letters(&model, 2), go).unwrap();
    assert_eq!((other.text, other.reused_tokens), (second.text, 0));
    conversation.reset();
    assert_eq!(conversation.messages().len(), 1);
    let third = conversation
        .reply("hello", 10, &letters(&model, 1), go)
        .unwrap();
    assert_eq!(third.text, first.text);
    assert!(third.reused_tokens > 10);
    let error = conversation
        .reply(&"x".repeat(400), 1, &letters(&model, 1), go)
        .unwrap_err();
    assert!(error.to_string().contains("/reset"), "{error}");
    assert_eq!(conversation.messages().len(), 3);
    assert!(
        Conversation::new(&model, 513)
            .unwrap_err()
            .to_string()
            .contains("512")
    );
}

#[test]
fn what_was_said_before_a_stop_stays() {
    let (_directory, path) = model();
    let model = Model::open(&path).unwrap();
    let mut conversation = Conversation::new(&model, 400).unwrap();
    let mut said = String::new();
    let reply = conversation.reply("hello", 50, &letters(&model, 1), |text| {
        said += text;
        match said.len() < 5 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    let reply = reply.unwrap();
    assert_eq!(
        (reply.ended, reply.text.as_str()),
        (Ended::Stopped, said.as_str())
    );
    assert_eq!(conversation.messages()[1].content, said);
    // stopped before anything was said: the question does not stay either
    let reply = conversation.reply("more", 50, &letters(&model, 1), |_| ControlFlow::Break(()));
    assert_eq!(reply.unwrap().tokens, 0);
    assert_eq!(conversation.messages().len(), 2);
}

/// What the terminal's conversation prints to standard output and to standard error.
fn talk(path: &Path, lines: &str) -> (String, String) {
    let mut command = Command::from_std(program());
    command.args([
        "chat",
        path.to_str().unwrap(),
        "-n",
        "8",
        "--temperature",
        "0",
    ]);
    let output = command
        .write_stdin(lines)
        .assert()
        .success()
        .get_output()
        .clone();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_terminal_takes_commands_and_texts_of_several_lines() {
    let (directory, path) = model();
    let file = directory.path().join("talk.json");
    let lines = format!(
        "/system be kind\nfirst\\\nsecond\n\"\"\"\nthird\n\"\"\"\n/save {0}\n/reset\n/load {0}\n\
         /set temperature 9\n/set top-p 7\n/nothing\n/load no/such\n/quit\nnever said\n",
        file.display()
    );
    let (_, notes) = talk(&path, &lines);
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[0]["content"], "be kind");
    assert_eq!(messages[1]["content"], "first\nsecond");
    assert_eq!(messages[3]["content"], "third");
    for note in [
        "5 turns in",
        "5 turns from",
        "temperature 9",
        "error: top-p",
        "/nothing is no command",
        "no/such",
        "tokens/s",
    ] {
        assert!(notes.contains(note), "{note:?} is not in {notes}");
    }
    assert!(!notes.contains("error: temperature"));
    // an answer goes on from what was loaded, as it would have without
    let (whole, _) = talk(&path, "one\ntwo\n");
    talk(&path, &format!("one\n/save {}\n", file.display()));
    let (rest, _) = talk(&path, &format!("/load {}\ntwo\n", file.display()));
    assert!(
        whole.ends_with(&rest) && rest.len() > 1,
        "{whole:?} {rest:?}"
    );
    std::fs::write(&file, "{\"messages\": [{\"role\": 1}]}").unwrap();
    let (_, notes) = talk(&path, &format!("/load {}\n", file.display()));
    assert!(notes.contains("no conversation"), "{notes}");
}

#[test]
fn speculation_in_a_conversation_changes_no_answer() {
    let (_directory, path) = model();
    let model = Model::open(&path).unwrap();
    let itself = Speculation::DraftModel(Arc::new(Model::open(&path).unwrap()));
    let talk = |speculation: &Speculation| {
        let mut conversation = Conversation::speculating(&model, 400, speculation).unwrap();
        let go = |_: &str| ControlFlow::Continue(());
        let greedy = Sampling::greedy();
        let replies = ["hello", "and then?"].map(|text| {
            let reply = conversation.reply(text, 20, &greedy, go).unwrap();
            (reply.text, reply.tokens, reply.ended, reply.speculated)
        });
        replies.map(|(text, tokens, ended, speculated)| ((text, tokens, ended), speculated))
    };
    let plain = talk(&Speculation::Off);
    for speculation in [&itself, &Speculation::Lookup] {
        let guessed = talk(speculation);
        assert_eq!(guessed.clone().map(|r| r.0), plain.clone().map(|r| r.0));
    }
    assert!(talk(&itself).iter().all(|(_, s)| s.accepted > 0));
}
