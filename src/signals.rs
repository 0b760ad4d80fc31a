//! Ctrl-C and SIGTERM: they set a flag that ends training after its step with a checkpoint, and pruning
//! with nothing written. A second one exits at once. SIGHUP keeps its handler, so that `nohup` works.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C and SIGTERM set. Installs the handlers when first called.
pub fn stop_flag() -> &'static AtomicBool {
    // A second installation in one process fails and is not needed.
    if ctrlc::set_handler(stop).is_ok() {
        on_sigterm();
    }
    &STOP
}

fn stop() {
    if STOP.swap(true, Ordering::Relaxed) {
        std::process::exit(130);
    }
    eprintln!("\nstopping after this step, in order (Ctrl-C again: at once)");
}

/// Without a handler, as on other systems, SIGTERM ends the process at once.
#[cfg(unix)]
fn on_sigterm() {
    use signal_hook::{consts::SIGTERM, iterator::Signals};

    if let Ok(mut signals) = Signals::new([SIGTERM]) {
        std::thread::spawn(move || signals.forever().for_each(|_| stop()));
    }
}

#[cfg(not(unix))]
fn on_sigterm() {}
