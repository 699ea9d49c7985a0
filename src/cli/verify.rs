//! `h402-watch verify`: artefacts against their signatures, their chain of hashes, their proofs and their terms, offline.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use h402_watch_verify::evidence::{Evidence, is_lines, lines};
use h402_watch_verify::history::History;
use h402_watch_verify::jwks::Keys;
use h402_watch_verify::report::plain;
use h402_watch_verify::{Report, Signed, Wrong, audit};
use serde::Serialize;
use serde_json::json;

/// The set of keys in a folder is not evidence.
const KEY_SET: &str = "jwks.json";
/// The largest key set, bytes.
const KEY_SET_MAX: usize = 1 << 20;
/// How long fetching one may take.
const KEY_SET_LIMIT: Duration = Duration::from_secs(30);
const ARTEFACT: &str = "json";
const SIGNATURE: &str = "jws";
const LINES: &str = "jsonl";

#[derive(Args)]
pub(super) struct VerifyCommand {
    /// Artefacts (`settled.json`, with its signature beside it in `settled.json.jws`), evidence lines as `receipts` prints them,
    /// folders of both, or - for lines on the standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The public keys that are believed: a JWK set, as a file or a URL (`https://…/.well-known/jwks.json`).
    #[arg(long, value_name = "FILE|URL", required_unless_present = "without_signature")]
    jwks: Option<String>,
    /// Leave signatures aside: what is shown then is shown by hashes and proofs alone.
    #[arg(long, conflicts_with = "jwks")]
    without_signature: bool,
    /// Take no term of a payment on anybody's word: what is told of transactions in blocks has to be proven. That a block is on the
    /// chain is for a node to say, all the same.
    #[arg(long)]
    require_proof: bool,
    /// Have all artefacts of each watch, from the first up to its settlement.
    #[arg(long)]
    require_complete: bool,
    /// Print one JSON object instead of a line for each artefact.
    #[arg(long)]
    json: bool,
}

/// One artefact, or what was to be one, and where it was found.
type Found = (String, Result<Evidence, Wrong>);

/// What is wrong with an artefact.
#[derive(Serialize)]
struct Complaint {
    code: String,
    said: String,
}

impl From<&Wrong> for Complaint {
    fn from(wrong: &Wrong) -> Self {
        Self { code: wrong.code.as_str().into(), said: wrong.said.clone() }
    }
}

type Verdict = Result<Report, Complaint>;

/// Checks everything, and says what is wrong with what. Returns the exit code: 0, or 1 if anything is wrong.
pub(super) async fn verify(command: VerifyCommand) -> anyhow::Result<u8> {
    let keys = match &command.jwks {
        Some(from) => Some(keys(from).await?),
        None => None,
    };
    let mut found = Vec::new();
    for path in &command.paths {
        found.extend(gather(path)?);
    }
    if found.is_empty() {
        bail!(
            "no artefact in {}",
            command.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    let evidence: Vec<_> = found.iter().filter_map(|(_, found)| found.as_ref().ok().cloned()).collect();
    let audit = audit(&evidence, keys.as_ref());
    let mut checked = audit.artefacts.into_iter();
    let mut verdicts = Vec::with_capacity(found.len());
    for (name, found) in found {
        let verdict = match found {
            Err(wrong) => Err(Complaint::from(&wrong)),
            Ok(_) => match checked.next().context("a verdict for each artefact")? {
                Err(wrong) => Err(Complaint::from(&wrong)),
                Ok(report) => command.judge(report),
            },
        };
        verdicts.push((name, verdict));
    }
    let histories: Vec<_> = audit.watches.iter().map(|watch| command.judge_history(watch)).collect();
    let good = print(&verdicts, &histories, command.json)?;
    Ok(u8::from(!good))
}

impl VerifyCommand {
    /// Whether what is in order has all that was asked for.
    fn judge(&self, report: Report) -> Verdict {
        let complaint = |code: &str, said: String| Err(Complaint { code: code.into(), said });
        if !self.without_signature && !matches!(report.signature, Signed::Signed { .. }) {
            return complaint("unsigned", "there is no signature beside it".into());
        }
        if self.require_proof && !report.is_fully_shown() {
            return complaint("unproven", report.to_string());
        }
        Ok(report)
    }

    fn judge_history<'a>(&self, history: &'a Result<History, Wrong>) -> Result<&'a History, Complaint> {
        match history {
            Err(wrong) => Err(Complaint::from(wrong)),
            Ok(history) if self.require_complete && !history.is_complete() => {
                Err(Complaint { code: "incomplete".into(), said: history.to_string() })
            }
            Ok(history) => Ok(history),
        }
    }
}

/// Prints the verdicts; whether all is in order. What stands in files is printed plainly: it may be a forger's.
fn print(
    verdicts: &[(String, Verdict)],
    histories: &[Result<&History, Complaint>],
    as_json: bool,
) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let wrong = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    let broken = histories.iter().filter(|history| history.is_err()).count();
    let good = wrong == 0 && broken == 0;
    if as_json {
        let one = |(name, verdict): &(String, Verdict)| match verdict {
            Ok(report) => json!({ "name": name, "ok": true, "report": report }),
            Err(wrong) => json!({ "name": name, "ok": false, "wrong": wrong }),
        };
        let watch = |history: &Result<&History, Complaint>| match history {
            Ok(history) => json!({ "ok": true, "history": history }),
            Err(wrong) => json!({ "ok": false, "wrong": wrong }),
        };
        let (all, watches): (Vec<_>, Vec<_>) =
            (verdicts.iter().map(one).collect(), histories.iter().map(watch).collect());
        writeln!(out, "{}", json!({ "ok": good, "artefacts": all, "watches": watches }))?;
        return Ok(good);
    }
    for (name, verdict) in verdicts {
        let name = plain(name);
        match verdict {
            Ok(report) => writeln!(out, "{name}: {report}")?,
            Err(Complaint { code, said }) => writeln!(out, "{name}: WRONG {code}: {}", plain(said))?,
        }
    }
    for history in histories {
        match history {
            Ok(history) => writeln!(out, "{history}")?,
            Err(Complaint { code, said }) => writeln!(out, "watch: WRONG {code}: {}", plain(said))?,
        }
    }
    let (total, watches) = (verdicts.len(), histories.len());
    if good {
        writeln!(out, "{total} artefacts of {watches} watches, all in order")?;
    } else {
        writeln!(out, "{wrong} of {total} artefacts wrong, and {broken} of {watches} watches")?;
    }
    Ok(good)
}

async fn keys(from: &str) -> anyhow::Result<Keys> {
    let is_url = from.starts_with("http://") || from.starts_with("https://");
    let text = if is_url {
        fetch(from).await.with_context(|| format!("--jwks {from}"))?
    } else {
        std::fs::read(from).with_context(|| format!("--jwks {from}"))?
    };
    Keys::parse(&text).with_context(|| format!("--jwks {from}"))
}

/// A key set by HTTP: of bounded size, in bounded time, from where it was asked for.
async fn fetch(url: &str) -> anyhow::Result<Vec<u8>> {
    let none = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().timeout(KEY_SET_LIMIT).redirect(none).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > KEY_SET_MAX {
            bail!("a key set of more than {KEY_SET_MAX} bytes");
        }
    }
    Ok(text)
}

/// The artefacts in a file or a folder, in the order of their names; or those on the standard input.
fn gather(path: &Path) -> anyhow::Result<Vec<Found>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(numbered("-", &bytes));
    }
    let readable = || format!("{}", path.display());
    if !std::fs::metadata(path).with_context(readable)?.is_dir() {
        return in_file(path);
    }
    let mut inside = BTreeSet::new();
    for entry in std::fs::read_dir(path).with_context(readable)? {
        inside.insert(entry?.path());
    }
    let mut found = Vec::new();
    for path in &inside {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            found.extend(gather(path)?);
        } else if path.file_name().is_some_and(|name| name != KEY_SET) && matches!(extension, Some(ARTEFACT | LINES)) {
            found.extend(in_file(path)?);
        } else if extension == Some(SIGNATURE) && !inside.contains(&path.with_extension("")) {
            let missing = Wrong::new(h402_watch_verify::Code::Shape, "a signature without its artefact");
            found.push((path.display().to_string(), Err(missing)));
        }
    }
    Ok(found)
}

fn in_file(path: &Path) -> anyhow::Result<Vec<Found>> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| name.clone())?;
    if is_lines(&bytes) {
        return Ok(numbered(&name, &bytes));
    }
    let beside = path.with_added_extension(SIGNATURE);
    let signature = match std::fs::read(&beside) {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| beside.display().to_string()),
    };
    Ok(vec![(name, Evidence::from_files(&bytes, signature.as_deref()))])
}

fn numbered(name: &str, bytes: &[u8]) -> Vec<Found> {
    lines(bytes).zip(1..).map(|(line, number)| (format!("{name}:{number}"), line)).collect()
}
