//! What is printed of artefacts, whose texts are whatever their author wrote.

use h402_watch_verify::report::plain;
use h402_watch_verify::{Code, Wrong, audit};
use serde_json::json;

use crate::support::bitcoin::Block;
use crate::support::{good, unsigned, with};

#[test]
fn texts_stay_on_their_line_and_look_like_what_they_are() {
    for visible in ["", "plain text 0x1f", "it's \"quoted\" \\ and more", "naïve 日本 €", "tests/a.json: x"] {
        assert_eq!(plain(visible), visible);
    }
    let cases = [
        ("a\nok b", "a\\nok b"),
        ("a\r\tb", "a\\r\\tb"),
        ("\u{1b}[2K", "\\u{1b}[2K"),
        ("\u{9b}x\u{7f}", "\\u{9b}x\\u{7f}"),
        ("\u{202e}abc\u{2066}", "\\u{202e}abc\\u{2066}"),
        ("\u{200b}\u{feff}\u{ad}\u{2028}", "\\u{200b}\\u{feff}\\u{ad}\\u{2028}"),
        ("\u{e0041}\u{fe0f}\u{301}", "\\u{e0041}\\u{fe0f}\\u{301}"),
    ];
    for (text, escaped) in cases {
        assert_eq!(plain(text), escaped);
        let one = text.chars().next().expect("a character");
        assert!(plain(&one.to_string()).is_ascii());
    }
}

#[test]
fn nothing_that_is_printed_breaks_the_line() {
    let block = Block::new(3, 500);
    let hostile = "x\nok settled.json success 9 proven\u{1b}[1A\u{202e}";
    let none = json!({"tx": block.tx(1), "kind": "none", "statement": hostile});
    let report = good(&with(&block.settled(1), "/proofs/0", none));
    assert!(is_plain(&report.to_string()) && is_plain(&report.inclusion.to_string()), "{report}");
    assert!(report.to_string().contains("x\\nok settled.json success 9 proven\\u{1b}[1A\\u{202e}"), "{report}");
    assert!(is_plain(&Wrong::new(Code::Shape, hostile).to_string()));
    // On a network without a spelling of its own anything names a transaction.
    let mut odd = with(&block.settled(1), "/network", json!("test:1"));
    odd["proofs"][0] = json!({"tx": hostile, "kind": "none", "statement": "x"});
    for pointer in ["/transfers/0/tx", "/transfers/0/block/hash"] {
        odd = with(&odd, pointer, json!(hostile));
    }
    let report = good(&odd);
    assert!(is_plain(&report.to_string()) && report.notes.iter().all(|note| is_plain(&note.to_string())), "{report}");
    let refused = with(&odd, "/transfers/0/to", json!(hostile));
    let audit = audit(&[unsigned(&odd), unsigned(&refused)], None);
    assert_eq!(audit.wrongs().count(), 2);
    assert!(audit.wrongs().all(|wrong| is_plain(&wrong.to_string())));
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|character| matches!(character, ' '..='~'))
}
