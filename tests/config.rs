//! What a configuration may say, and what its author is told otherwise.

use h402_watch::config::Config;
use h402_watch::run;
use h402_watch::sign;
use h402_watch_engine::request::Tag;

const GOOD: &str = r#"
[store]
path = "/tmp/s"
[[network]]
id = "eip155:1"
block_time_ms = 12000
[[network.endpoint]]
name = "a"
http_url = "http://127.0.0.1:8545"
"#;

fn refusal(text: &str) -> String {
    Config::parse(text, "test.toml", &[]).expect_err("is refused").to_string()
}

#[test]
fn the_shortest_configuration_has_defaults() {
    let config = Config::parse(GOOD, "test.toml", &[]).expect("loads");
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:4020");
    assert_eq!(config.networks[0].rules().deadline_grace_ms, 48_000);
}

/// A network has the tags of its chain family, unless the file says which.
#[test]
fn finality_tags_are_all_or_those_that_are_named() {
    let tags = |text: &str| Config::parse(text, "test.toml", &[]).expect("loads").networks[0].tags();
    assert_eq!(tags(GOOD), [Tag::Confirmed, Tag::Safe, Tag::Finalized]);
    let named = |words: &str| GOOD.replace("block_time_ms", &format!("finality_tags = [{words}]\nblock_time_ms"));
    assert_eq!(tags(&named("\"confirmed\", \"finalized\"")), [Tag::Confirmed, Tag::Finalized]);
    assert_eq!(tags(&named("")), []);
    let check = |text: &str| run::check(&Config::parse(text, "test.toml", &[]).expect("loads"));
    check(&named("\"safe\"")).expect("EVM chains know it");
    let refused = check(&named("\"confirmed\"")).expect_err("EVM chains don't").to_string();
    assert_eq!(refused, "network eip155:1: finality_tags: expected tags that its chain knows (safe, finalized)");
}

#[test]
fn mistakes_are_named() {
    let cases = [
        (GOOD.replace("path", "pth"), "unknown field `pth`"),
        (GOOD.replace("[store]\n", "[stor]\n"), "unknown field `stor`"),
        (format!("[signing]\nkeyfile = \"k\"\n{GOOD}"), "unknown field `keyfile`"),
        (
            format!("[grpc]\nlisten = \"0.0.0.0:1\"\n{GOOD}"),
            "grpc.listen: expected a loopback address, or tokens, or TLS",
        ),
        (format!("[grpc]\ntls_cert = \"c\"\n{GOOD}"), "grpc.tls_key: expected both"),
        (format!("[grpc]\ntokens = [\"short\"]\n{GOOD}"), "grpc.tokens: expected tokens of at least 16 characters"),
        (format!("[limits]\nproof_age_max_days = 500\n{GOOD}"), "store.archived_days: expected at least"),
        (GOOD.replace("[store]", "[store]\nevents_days = 401"), "store.archived_days: expected at least"),
        (GOOD.replace("12000", "0"), "block_time_ms"),
        (GOOD.replace("http://", "ftp://"), "endpoint.http_url: expected http://"),
        (
            GOOD.replace("http_url", "electrum_url"),
            "endpoint.electrum_url: expected tcp://host:port or ssl://host:port",
        ),
        (
            GOOD.replace("http_url = \"http://127.0.0.1:8545\"", ""),
            "endpoint.http_url, electrum_url: expected one of the two",
        ),
        (format!("{GOOD}electrum_url = \"tcp://a:1\"\n"), "endpoint.http_url, electrum_url: expected one of the two"),
        (
            format!("{GOOD}[[network.endpoint]]\nname = \"b\"\nelectrum_url = \"tcp://a:1\"\n"),
            "endpoint.electrum_url: expected all endpoints of a network with it, or none",
        ),
        (
            format!("{}ws_url = \"ws://a\"\n", GOOD.replace("http_url = \"http://127", "electrum_url = \"tcp://127")),
            "endpoint.electrum_url: expected neither ws_url",
        ),
        (GOOD.replace("block_time_ms", "quorum = 2\nblock_time_ms"), "quorum: expected 1 up to"),
        (GOOD.replace("block_time_ms", "horizon_blocks = 1\nblock_time_ms"), "horizon_blocks: expected"),
        (GOOD.split("[[network.endpoint]]").next().unwrap_or_default().into(), "endpoint: expected at least one"),
        ("[store]\npath = \"/tmp/s\"\n".into(), "network: expected at least one"),
    ];
    for (text, expected) in cases {
        let told = refusal(&text);
        assert!(told.contains(expected), "{told:?} does not say {expected:?}");
    }
}

#[test]
fn mistakes_are_told_without_the_secrets_beside_them() {
    const SECRET: &str = "my-long-secret-token";
    let as_text = format!("[grpc]\ntokens = \"{SECRET}\"\n{GOOD}");
    let unclosed = GOOD.replace("\"http://127.0.0.1:8545\"", &format!("\"https://node.example/{SECRET}"));
    let number = format!("[grpc]\nmessage_max_bytes = \"{SECRET}\"\n{GOOD}");
    for text in [as_text, unclosed, number] {
        let told = refusal(&text);
        assert!(!told.contains(SECRET) && !told.contains("secret"), "{told}");
        assert!(told.starts_with("test.toml: "), "{told}");
    }
    let environment = [("H402_WATCH__GRPC__TOKENS".to_owned(), SECRET.to_owned())];
    let told = Config::parse(GOOD, "test.toml", &environment).expect_err("is no list").to_string();
    assert!(!told.contains(SECRET), "{told}");
}

#[test]
fn a_public_address_is_fine_with_tokens_tls_or_when_told_to() {
    for key in ["tokens = [\"0123456789abcdef\"]", "tls_cert = \"c\"\ntls_key = \"k\"", "allow_insecure = true"] {
        let text = format!("[grpc]\nlisten = \"0.0.0.0:1\"\n{key}\n{GOOD}");
        Config::parse(&text, "test.toml", &[]).expect(key);
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = [
        ("H402_WATCH__GRPC__LISTEN".to_owned(), "127.0.0.1:5".to_owned()),
        ("H402_WATCH__STORE__EVENTS_DAYS".to_owned(), "7".to_owned()),
        ("H402_WATCH__GRPC__TOKENS".to_owned(), "[\"${TOKEN}\"]".to_owned()),
        ("TOKEN".to_owned(), "0123456789abcdef".to_owned()),
    ];
    let config = Config::parse(GOOD, "test.toml", &environment).expect("loads");
    assert_eq!((config.grpc.listen.port(), config.store.events_days), (5, 7));
    assert_eq!(config.grpc.tokens[0].expose(), "0123456789abcdef");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

/// The keys are looked at before a service relies on them, and none is made.
#[test]
fn keys_are_checked_and_none_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = GOOD.replace("/tmp/s", &folder.path().join("store").display().to_string());
    let check = |signing: &str, environment: &[(String, String)]| {
        let text = format!("[signing]\n{signing}\n{good}");
        let config = Config::parse(&text, "test.toml", environment).map_err(anyhow::Error::from)?;
        assert!(!format!("{config:?}").contains("BEGIN"), "secrets are never printed");
        run::check(&config)
    };
    check("", &[]).expect("one will be made");
    assert!(!folder.path().join("store").exists());

    let path = folder.path().join("key.pem");
    let keys = format!("keys = [{path:?}]");
    let told = check(&keys, &[]).expect_err("is not there").to_string();
    assert_eq!(told, format!("key file {}: could not read it", path.display()));
    sign::make(&path).expect("makes one");
    check(&keys, &[]).expect("is fine");

    let told = check("key = \"${SIGNING_KEY}\"", &[]).expect_err("is not set").to_string();
    assert_eq!(told, "signing.key: expected the environment variable SIGNING_KEY, which is not set");
    let pem = std::fs::read_to_string(&path).expect("is there");
    let environment = [("SIGNING_KEY".to_owned(), pem.clone())];
    check("key = \"${SIGNING_KEY}\"", &environment).expect("is fine");
    check("", &[("H402_WATCH__SIGNING__KEY".to_owned(), pem)]).expect("is fine");
    let told = check(&format!("key = \"${{SIGNING_KEY}}\"\n{keys}"), &environment).expect_err("twice").to_string();
    assert_eq!(told, format!("key file {}: expected another key than that of signing.key", path.display()));
}
