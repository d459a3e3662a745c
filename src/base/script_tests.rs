//! Runs the scripts of a module. `UPDATE_GOLDENFILES=1 cargo test --lib scripts` rewrites their output.

use std::{fs, path::Path};

use goldenscript::Runner;

/// Runs every script in `src/<module>/testscripts`, each with a runner of its own, in order of their names.
pub fn run<R: Runner>(module: &str, new_runner: impl Fn() -> R) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module).join("testscripts");
    let files = fs::read_dir(&directory).expect("the scripts are beside the module");
    let mut paths: Vec<_> = files.map(|file| file.expect("a readable directory").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", directory.display());
    for path in paths {
        // Shown if the script fails.
        println!("script {}", path.display());
        goldenscript::run(&mut new_runner(), &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
