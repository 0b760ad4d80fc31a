//! The scheduler: answers that do not depend on company, pages that are shared and given back.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retort_engine::Model;
use retort_engine::decode::{DecodeOptions, End};
use retort_engine::decoder::{Batch, EngineSettings, KvType};
use retort_engine::sampling::Sampling;
use retort_engine::speculate::Speculation;
use retort_format::GgmlType;
use retort_serve::scheduler::{Event, Generate, Limits, Refused, Request, Scheduler, Task, Usage};
use retort_test_kit::{Shape, write_gguf};
use tokio::sync::mpsc::UnboundedReceiver;

/// A packed model, in which a row of a product does not depend on its neighbours.
fn model() -> Arc<Model> {
    let directory = tempfile::tempdir().unwrap();
    let (plain, packed) = (
        directory.path().join("a.gguf"),
        directory.path().join("b.gguf"),
    );
    let shape = Shape {
        ty: GgmlType::Q4_0,
        context: 1024,
        ..Shape::default()
    };
    write_gguf(&plain, &shape);
    retort_convert::pack::pack(&plain, &packed, |_, _| {}).unwrap();
    open(&packed)
}

fn open(path: &Path) -> Arc<Model> {
    let settings = EngineSettings::new(NonZeroUsize::new(2), false, KvType::F16).unwrap();
    Arc::new(Model::open_with(path, settings).unwrap())
}

fn limits() -> Limits {
    Limits {
        context: 512,
        positions: 4096,
        parallel: 16,
        queue: 64,
        // emulated processors are slow
        timeout: Duration::from_secs(600),
    }
}

fn generate(prompt: Vec<u32>, max_tokens: usize, seed: u64) -> Request {
    let sampling = Sampling {
        temperature: 1.0,
        seed,
        ..Sampling::plain()
    };
    let generate = Generate {
        options: DecodeOptions {
            logprobs: Some(2),
            ignore_end: true,
            ..DecodeOptions::new(max_tokens, &sampling)
        },
        prompt_logprobs: false,
    };
    Request {
        prompt,
        task: Task::Generate(Box::new(generate)),
    }
}

fn prompt(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32)
        .map(|i| (i * 97 + seed * 31 + i * i * seed) % 271)
        .collect()
}

/// All events of a request, and its usage.
fn collect(mut events: UnboundedReceiver<Event>) -> (Vec<Event>, Usage) {
    let mut all = Vec::new();
    loop {
        match events.blocking_recv().expect("events end with an end") {
            Event::End(_, usage) => return (all, usage),
            Event::Failed(problem) => panic!("{problem}"),
            event => all.push(event),
        }
    }
}

fn submit(scheduler: &Scheduler, request: Request) -> UnboundedReceiver<Event> {
    scheduler.submit(vec![request]).unwrap().pop().unwrap()
}

fn tokens(events: &[Event]) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token(token) => Some(token.id),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

/// Logits of each sequence alone, a token at a time, against all together with pieces of prompts of all sizes.
#[test]
fn a_pass_gives_each_sequence_its_own_bits() {
    let model = model();
    let engine = &model.engine;
    assert!(engine.stands_alone());
    let prompts: Vec<Vec<u32>> = (0..9).map(|i| prompt(1 + 13 * i, i as u32)).collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        let mut session = engine.session(200).unwrap();
        let mut last = session.forward(prompt).unwrap().to_vec();
        for token in [5, 6, 7] {
            last = session.forward(&[token]).unwrap().to_vec();
        }
        alone.push(last);
    }
    let mut batch = Batch::new(engine);
    let mut sequences: Vec<_> = prompts.iter().map(|p| engine.sequence(p.len())).collect();
    // some read while others already write
    let mut texts: Vec<Vec<u32>> = prompts
        .iter()
        .map(|p| [&p[..], &[5, 6, 7]].concat())
        .collect();
    let mut last = vec![Vec::new(); texts.len()];
    for step in 1.. {
        let pieces: Vec<Vec<u32>> = (texts.iter_mut().enumerate())
            .map(|(i, text)| text.drain(..text.len().min(1 + (i * step) % 11)).collect())
            .collect();
        if pieces.iter().all(Vec::is_empty) {
            break;
        }
        let mut work: Vec<_> = sequences
            .iter_mut()
            .zip(&pieces)
            .map(|(s, p)| (s, &p[..]))
            .collect();
        batch.forward(&mut work).unwrap();
        let mut row = 0;
        for (i, piece) in pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| !piece.is_empty())
        {
            row += piece.len();
            last[i] = batch.logits([row - 1]).unwrap().to_vec();
        }
    }
    for (i, (together, alone)) in last.iter().zip(&alone).enumerate() {
        assert_eq!(together, alone, "sequence {i}");
    }
    assert!(batch.logits([9999]).is_err());
    assert!(batch.forward(&mut []).is_err());
    assert!(
        batch
            .forward(&mut [(&mut sequences[0], &[272][..])])
            .is_err()
    );
}

#[test]
fn an_answer_does_not_depend_on_company() {
    let model = model();
    let scheduler = Scheduler::start(Arc::clone(&model), limits()).unwrap();
    let requests = || (0..12).map(|i| generate(prompt(1 + 37 * i, i as u32), 20 + i, i as u64));
    let alone: Vec<_> = requests()
        .map(|r| collect(submit(&scheduler, r)).0)
        .collect();
    assert!(tokens(&alone[3]).len() == 23);
    for _ in 0..2 {
        let together: Vec<_> = requests().map(|r| submit(&scheduler, r)).collect();
        for (i, (events, alone)) in together.into_iter().zip(&alone).enumerate() {
            // probabilities too, to the bit
            assert_eq!(&collect(events).0, alone, "request {i}");
        }
    }
    let metrics = scheduler.metrics();
    assert_eq!(metrics.finished.get(), 36);
    assert!(metrics.reused_tokens.get() > 0);
    // the engine does what a session does
    let mut text = Vec::new();
    let sampling = Sampling {
        temperature: 1.0,
        seed: 3,
        ..Sampling::plain()
    };
    let quiet = |piece: &str| {
        text.push(piece.to_owned());
        std::ops::ControlFlow::Continue(())
    };
    let session = model
        .generate_from(&prompt(112, 3), 23, &sampling, quiet)
        .unwrap();
    let n = session.tokens.len();
    assert_eq!(tokens(&alone[3])[..n], session.tokens);
}

#[test]
fn prompts_that_begin_alike_are_computed_once() {
    let scheduler = Scheduler::start(model(), limits()).unwrap();
    let long = prompt(200, 1);
    let first = collect(submit(&scheduler, generate(long.clone(), 40, 9)));
    assert_eq!(
        first.1,
        Usage {
            prompt: 200,
            reused: 0,
            answer: 40
        }
    );
    // the same again: all full pages before the last token
    let second = collect(submit(&scheduler, generate(long.clone(), 40, 9)));
    assert_eq!(second.1.reused, 192);
    assert_eq!(second.0, first.0);
    // a conversation that goes on: the answer's pages too
    let mut next = [&long[..], &tokens(&first.0)].concat();
    next.extend(prompt(20, 5));
    let third = collect(submit(&scheduler, generate(next.clone(), 4, 9)));
    assert_eq!(third.1.reused, 239 / 32 * 32);
    let fresh = Scheduler::start(model(), limits()).unwrap();
    assert_eq!(collect(submit(&fresh, generate(next, 4, 9))).0, third.0);
    // answers to one prompt that come at once wait for its pages
    let other = prompt(150, 8);
    let several = (0..5)
        .map(|seed| generate(other.clone(), 3, seed))
        .collect();
    let several = scheduler.submit(several).unwrap();
    let reused: Vec<usize> = several
        .into_iter()
        .map(|events| collect(events).1.reused)
        .collect();
    assert_eq!(reused, [0, 128, 128, 128, 128]);
}

#[test]
fn probabilities_of_prompts_are_those_of_a_session() {
    let model = model();
    let scheduler = Scheduler::start(Arc::clone(&model), limits()).unwrap();
    let ids = prompt(90, 4);
    let mut request = generate(ids.clone(), 1, 0);
    if let Task::Generate(generate) = &mut request.task {
        generate.prompt_logprobs = true;
    }
    let (events, _) = collect(submit(&scheduler, request));
    let Event::Prompt(told) = &events[0] else {
        panic!("{events:?}");
    };
    let mut session = model.engine.session(100).unwrap();
    let mut expected = Vec::new();
    let visit = |first: usize, rows: &[f32]| {
        for (i, logits) in rows.chunks_exact(272).enumerate() {
            if let Some(&id) = ids.get(first + i + 1) {
                let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
                expected.push((id, f64::from(logits[id as usize]) - total.ln()));
            }
        }
    };
    session.forward_all(&ids, 0, visit).unwrap();
    assert_eq!(told.len(), 89);
    for (told, (id, logprob)) in told.iter().zip(expected) {
        assert_eq!(told.id, id);
        assert!((f64::from(told.logprob) - logprob).abs() < 1e-4);
        assert_eq!(told.top.len(), 2);
    }
}

#[test]
fn an_embedding_is_the_mean_of_the_states() {
    let model = model();
    let scheduler = Scheduler::start(Arc::clone(&model), limits()).unwrap();
    let embed = |ids: &[u32]| {
        let request = Request {
            prompt: ids.to_vec(),
            task: Task::Embed,
        };
        let (events, _) = collect(submit(&scheduler, request));
        let Event::Embedding(embedding) = &events[0] else {
            panic!("{events:?}");
        };
        embedding.clone()
    };
    let ids = prompt(300, 2);
    let mut batch = Batch::new(&model.engine);
    let mut sequence = model.engine.sequence(300);
    batch.forward(&mut [(&mut sequence, &ids[..])]).unwrap();
    let states = batch.states();
    let mut mean = vec![0f64; 64];
    for state in states.chunks_exact(64) {
        mean.iter_mut()
            .zip(state)
            .for_each(|(mean, x)| *mean += f64::from(*x));
    }
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
    let found = embed(&ids);
    assert_eq!(found.len(), 64);
    for (found, mean) in found.iter().zip(&mean) {
        assert!((f64::from(*found) - mean / length).abs() < 1e-5);
    }
    assert_eq!(found, embed(&ids));
    assert_ne!(found, embed(&ids[..299]));
}

#[test]
fn who_goes_away_frees_what_he_had() {
    let scheduler = Scheduler::start(model(), limits()).unwrap();
    let metrics = scheduler.metrics();
    // room for eight of these, so that others wait
    let mut events: Vec<_> = (0..20)
        .map(|i| submit(&scheduler, generate(prompt(9, i), 500, 0)))
        .collect();
    events[0].blocking_recv().unwrap();
    assert!(metrics.waiting.get() > 0 && metrics.running.get() > 0);
    let last = events.pop().unwrap();
    drop(events);
    // the last comes to its turn at once
    assert_eq!(collect(last).1.answer, 500);
    let start = Instant::now();
    while metrics.cancelled.get() < 19 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(metrics.cancelled.get(), 19);
    // everything is given back
    assert_eq!(
        collect(submit(&scheduler, generate(prompt(12, 3), 500, 0)))
            .1
            .answer,
        500
    );
    while metrics.running.get() > 0 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(metrics.reserved_pages.get(), 0);
}

#[test]
fn what_does_not_fit_is_refused_or_waits() {
    let small = Limits {
        queue: 3,
        parallel: 1,
        ..limits()
    };
    let scheduler = Scheduler::start(model(), small).unwrap();
    let refused = |request| scheduler.submit(vec![request]).unwrap_err();
    let invalid = |request, word: &str| match refused(request) {
        Refused::Invalid(problem) => assert!(problem.contains(word), "{problem}"),
        other => panic!("{other:?}"),
    };
    invalid(generate(Vec::new(), 3, 0), "empty");
    invalid(generate(prompt(500, 0), 13, 0), "context of 512");
    invalid(generate(vec![1], usize::MAX, 0), "context of 512");
    invalid(generate(vec![272], 1, 0), "272");
    let mut hot = generate(vec![1], 1, 0);
    if let Task::Generate(generate) = &mut hot.task {
        generate.options.sampling.temperature = -1.0;
    }
    invalid(hot, "temperature");
    let many = (0..4).map(|_| generate(vec![1], 1, 0)).collect();
    assert!(matches!(scheduler.submit(many), Err(Refused::Invalid(_))));
    // one is worked on, three wait, no more
    let first = submit(&scheduler, generate(prompt(3, 0), 500, 0));
    let mut waiting = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        match scheduler.submit(vec![generate(vec![1], 2, 0)]) {
            Ok(more) => waiting.extend(more),
            Err(error) => {
                assert_eq!(error, Refused::Busy);
                break;
            }
        }
    }
    assert!(waiting.len() >= 2);
    assert_eq!(scheduler.metrics().refused.get(), 1);
    collect(first);
    for events in waiting {
        collect(events);
    }
    // what has been taken is finished, and nothing more is taken
    let last = submit(&scheduler, generate(prompt(3, 0), 100, 0));
    scheduler.close();
    assert!(matches!(
        scheduler.submit(vec![generate(vec![1], 1, 0)]),
        Err(Refused::Closed)
    ));
    assert_eq!(collect(last).1.answer, 100);
    let bad = |change: fn(&mut Limits)| {
        let mut limits = limits();
        change(&mut limits);
        Scheduler::start(model(), limits).unwrap_err().to_string()
    };
    assert!(bad(|l| l.context = 2000).contains("1024"));
    assert!(bad(|l| l.positions = 100).contains("100 positions"));
    assert!(bad(|l| l.parallel = 0).contains("at least one"));
}

#[test]
fn time_runs_out_with_an_error() {
    let hurried = Limits {
        timeout: Duration::ZERO,
        ..limits()
    };
    let scheduler = Scheduler::start(model(), hurried).unwrap();
    let mut events = submit(&scheduler, generate(prompt(3, 0), 500, 0));
    match events.blocking_recv().unwrap() {
        Event::Failed(problem) => assert!(problem.contains("longer than 0 seconds")),
        other => panic!("{other:?}"),
    }
}

/// A short prompt that comes after a long one is answered first, and an answer goes on while prompts are read.
#[test]
fn long_prompts_do_not_hold_others_up() {
    let scheduler = Scheduler::start(model(), limits()).unwrap();
    let long: Vec<_> = (0..6)
        .map(|i| submit(&scheduler, generate(prompt(500, i), 1, 0)))
        .collect();
    let (_, usage) = collect(submit(&scheduler, generate(prompt(30, 9), 8, 0)));
    assert_eq!(usage.answer, 8);
    assert!(
        scheduler.metrics().finished.get() < 4,
        "the short one was among the first"
    );
    let ends: Vec<_> = long
        .into_iter()
        .map(|events| collect(events).1.answer)
        .collect();
    assert_eq!(ends, [1; 6]);
}

#[test]
fn the_end_of_text_ends_an_answer() {
    let scheduler = Scheduler::start(model(), limits()).unwrap();
    // a bias makes the end certain
    let mut request = generate(prompt(9, 0), 50, 0);
    if let Task::Generate(generate) = &mut request.task {
        generate.options.ignore_end = false;
        generate.options.sampling.logit_bias = vec![(271, 1e6)];
    }
    let mut events = submit(&scheduler, request);
    assert!(matches!(events.blocking_recv(), Some(Event::Token(token)) if token.id == 271));
    let usage = Usage {
        prompt: 9,
        reused: 0,
        answer: 0,
    };
    assert_eq!(events.blocking_recv(), Some(Event::End(End::Stop, usage)));
}

#[test]
fn speculation_gives_the_same_tokens_in_fewer_passes() {
    let model = model();
    let greedy = || {
        let mut request = generate(prompt(40, 2), 24, 0);
        let Task::Generate(generate) = &mut request.task else {
            unreachable!()
        };
        generate.options.sampling = Sampling::greedy();
        request
    };
    let run = |speculation: Speculation| {
        let scheduler = Scheduler::speculating(Arc::clone(&model), limits(), speculation).unwrap();
        let (events, usage) = collect(submit(&scheduler, greedy()));
        assert_eq!(usage.answer, 24);
        let alone = scheduler.metrics().passes.get();
        // beside others nothing is guessed, and nothing changes
        let both = scheduler.submit(vec![greedy(), greedy()]).unwrap();
        for events_of_one in both {
            assert_eq!(tokens(&collect(events_of_one).0), tokens(&events));
        }
        (events, alone)
    };
    let (plain, passes) = run(Speculation::Off);
    let (lookup, _) = run(Speculation::Lookup);
    let (draft, fewer) = run(Speculation::DraftModel(Arc::clone(&model)));
    assert_eq!(lookup, plain);
    assert_eq!(draft, plain);
    // the model guesses itself: six tokens a pass
    assert!(fewer + 15 < passes, "{fewer} of {passes}");
}
