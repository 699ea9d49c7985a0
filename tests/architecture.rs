//! Rules of the house that a compiler does not check.

use std::path::{Path, PathBuf};

use h402_watch::config::Config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// Which module of the service a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(ROOT).join("src")).expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// DESIGN §6: chain and store use engine types only; the driver uses the engine, the source trait and the store; the API a
/// driver handle and the store's reads; run alone sees everything.
#[test]
fn modules_use_only_what_they_may() {
    let allowed: [(&str, &[&str]); 11] = [
        ("chain", &["chain", "clock"]),
        ("store", &["store"]),
        ("clock", &[]),
        ("sign", &[]),
        ("metrics", &["chain", "driver"]),
        ("driver", &["chain", "clock", "metrics", "sign", "store"]),
        ("api", &["api", "chain", "clock", "driver", "metrics", "store"]),
        ("config", &["chain", "driver", "sign", "store"]),
        ("telemetry", &["config"]),
        ("run", &["api", "chain", "clock", "config", "driver", "metrics", "sign", "store"]),
        ("cli", &["clock", "config", "run", "sign", "telemetry"]),
    ];
    for (path, text) in sources("src") {
        let of = module(&path);
        let Some((_, may)) = allowed.iter().find(|(name, _)| *name == of) else { continue };
        for line in text.lines() {
            let Some(rest) = line.trim_start().strip_prefix("use crate::") else { continue };
            let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(may.contains(&used.as_str()), "{}: {of} must not use {used}", path.display());
        }
        let concrete = ["chain::evm", "chain::bitcoin", "chain::solana"].iter().any(|family| text.contains(family))
            && of != "chain";
        assert!(!concrete, "{}: adapters are known to chain/mod.rs alone", path.display());
    }
}

/// The engine is pure: no clock, task, socket, log, or order of a hash map; and no chain family.
#[test]
fn the_engine_is_pure_and_names_no_chain() {
    for (path, text) in sources("src/engine") {
        let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        for word in ["tokio", "tracing", "std::time", "Instant", "std::net", "std::fs", "rand::", "println!"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
        // Not even in its comments.
        let lowered = text.to_ascii_lowercase();
        for family in ["evm", "bitcoin", "solana", "eip155", "ethereum"] {
            assert!(!lowered.contains(family), "{}: {family}", path.display());
        }
    }
}

/// A file that is hard to hold in the head is split by noun.
#[test]
fn files_are_of_readable_size() {
    for (path, text) in sources("src") {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(code <= 700, "{}: {code} lines", path.display());
    }
}

#[test]
fn the_example_configuration_loads() {
    let path = Path::new(ROOT).join("deploy/config.example.toml");
    let environment = [("BASE_PROVIDER_URL".to_owned(), "https://base.example/key".to_owned())];
    let config = Config::load(&path, &environment).expect("it loads");
    assert_eq!(config.networks[0].endpoints[1].http_url.as_ref().expect("a URL").expose(), "https://base.example/key");
    assert!(!format!("{config:?}").contains("base.example/key"), "secrets are never printed");
    let unset = Config::load(&path, &[]).expect_err("the variable is not set");
    assert_eq!(
        unset.to_string(),
        "network.endpoint.http_url: expected the environment variable BASE_PROVIDER_URL, which is not set"
    );
}
