//! Ctrl-C or SIGTERM asks the run to stop at the next step, with a checkpoint; a second one
//! kills.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C and a polite kill set. Installs the handler when first called.
pub fn flag() -> &'static AtomicBool {
    // A second installation in one process fails and is not needed.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step with a checkpoint (Ctrl-C again: at once)");
    });
    &STOP
}
