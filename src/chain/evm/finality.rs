//! What the chain says of its own finality: the tags `safe` and `finalized`.

use std::cmp::Reverse;

use h402_watch_engine::input::Observation;
use h402_watch_engine::request::Tag;
use serde_json::json;

use super::follow::{Follower, Told};
use super::text::Link;
use super::wire::RpcBlock;
use crate::chain::Stopping;
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers};

impl Follower {
    /// Asks for the finality tags, once per head, and only while something that was found waits for them.
    pub(super) async fn ask_finality(&mut self) -> Result<(), Stopping> {
        let Some(head) = self.walk.mirror.head().map(|head| head.hash) else { return Ok(()) };
        if !self.awaits_finality() || self.finality_at == Some(head) {
            return Ok(());
        }
        let with_head = self.tagged_with.take().filter(|(tip, _)| *tip == head);
        let tagged = match with_head {
            Some((_, blocks)) => Some(self.by_tag(&[blocks])),
            None => self.tagged().await,
        };
        let Some(tagged) = tagged else { return Ok(()) };
        self.finality_at = Some(head);
        for (tag, links) in tagged {
            let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
            let ours = |link: &&Link| link.height < bottom || self.walk.mirror.holds(link.height, link.hash);
            // With a quorum of n, what n endpoints call so.
            if let Some(link) = links.iter().filter(ours).nth(self.settings.quorum - 1).copied() {
                self.tell_finality(tag, &link).await?;
            }
        }
        Ok(())
    }

    /// Reports blocks one by one, each with the tags that it has by now: after an absence a deadline must not pass between a
    /// payment and the news that it was final long since.
    pub(super) async fn report_with_tags(&mut self, report: Vec<Told>) -> Result<(), Stopping> {
        let tagged = self.tagged().await.unwrap_or_default();
        for told in report {
            let link = told.link;
            self.report(vec![told]).await?;
            for (tag, links) in &tagged {
                // What n endpoints have below a block of that tag has it too.
                if links.get(self.settings.quorum - 1).is_some_and(|tagged| link.height <= tagged.height) {
                    self.tell_finality(*tag, &link).await?;
                }
            }
        }
        Ok(())
    }

    async fn tell_finality(&mut self, tag: Tag, link: &Link) -> Result<(), Stopping> {
        if tag == Tag::Finalized {
            self.walk.mirror.finalize(link.height);
        }
        self.reports.observe(Observation::Finality { tag, block: link.block_ref() }).await
    }

    /// The blocks that endpoints give their tags to, the highest first: of one endpoint, or of all where a quorum is asked
    /// for. `None` if too few answer.
    async fn tagged(&self) -> Option<Vec<(Tag, Vec<Link>)>> {
        let calls = self.tag_calls();
        if calls.is_empty() {
            return None;
        }
        let read = |endpoint: &Endpoint, answers: Answers| read_tags(endpoint, answers).map(Some);
        let mut answers: Vec<Vec<Option<RpcBlock>>> = Vec::new();
        if self.settings.quorum < 2 {
            if let Answer::Found(_, blocks) = self.pool.first(self.preferred, &calls, read).await {
                answers.push(blocks);
            }
        } else {
            for index in 0..self.pool.len() {
                if self.pool.is_usable(index).await
                    && let Ok(answered) = self.pool.at(index).batch(&calls).await
                    && let Ok(Some(blocks)) = read(self.pool.at(index), answered)
                {
                    answers.push(blocks);
                }
            }
        }
        if answers.len() < self.settings.quorum {
            return None;
        }
        Some(self.by_tag(&answers))
    }

    /// Whether something that was found waits for its finality.
    pub(super) fn awaits_finality(&self) -> bool {
        self.highest_fact.is_some_and(|height| self.walk.mirror.finalized().is_none_or(|mark| mark < height))
    }

    fn tags(&self) -> impl Iterator<Item = Tag> {
        self.settings.tags.iter().filter(|tag| **tag != Tag::Confirmed).copied()
    }

    /// Asks for the block of each tag.
    pub(super) fn tag_calls(&self) -> Vec<Call> {
        let word = |tag: Tag| if tag == Tag::Safe { "safe" } else { "finalized" };
        self.tags().map(|tag| ("eth_getBlockByNumber", json!([word(tag), false]))).collect()
    }

    /// What endpoints gave each tag to, the highest first.
    fn by_tag(&self, answers: &[Vec<Option<RpcBlock>>]) -> Vec<(Tag, Vec<Link>)> {
        let links = |(i, tag): (usize, Tag)| {
            let mut links: Vec<_> =
                answers.iter().filter_map(|blocks| blocks.get(i)?.as_ref().map(Link::from)).collect();
            links.sort_by_key(|link| Reverse(link.height));
            (tag, links)
        };
        self.tags().enumerate().map(links).collect()
    }
}

/// Reads the answers to [`Follower::tag_calls`].
pub(super) fn read_tags(endpoint: &Endpoint, answers: Answers) -> Result<Vec<Option<RpcBlock>>, CallError> {
    let mut blocks = Vec::with_capacity(answers.len());
    for answer in answers {
        blocks.push(match answer {
            // Not every chain knows every tag, and young ones have no such block yet.
            Err(CallError::Node { .. } | CallError::Unsupported(_)) => None,
            answer => endpoint.read::<Option<RpcBlock>>(&answer?)?,
        });
    }
    Ok(blocks)
}
