//! Messages for an incoming webhook of Slack, in Block Kit. An incoming webhook cannot change what it has sent, so the
//! result is a message of its own.
//!
//! Limits are those of Slack's documentation: 50 blocks, 150 characters in a header, 3000 in a text, 2000 in a field and
//! ten fields in a section; `&`, `<` and `>` are written as entities, so that no word of a pod or a server can become a
//! link or a mention.

use serde_json::{Value, json};

use super::facts::{Facts, MOST_NAMED, kind_words};
use super::turn::Turn;

const HEADER: usize = 150;
const TEXT: usize = 3000;
const FIELD: usize = 2000;

/// The body of the POST.
pub fn payload(facts: &Facts) -> Value {
    let headline = format!("{} {}", sign(facts), facts.headline);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": escaped(&headline, HEADER), "emoji": true},
    })];
    let fields: Vec<Value> =
        fields(facts).iter().map(|(name, value)| mrkdwn(&format!("*{name}*\n"), value, FIELD)).collect();
    // Two columns on a screen, one below the other on a phone.
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    for (title, lines) in lists(facts) {
        let text = lines.join("\n");
        blocks.push(json!({"type": "section", "text": mrkdwn(&format!("*{title}*\n"), &text, TEXT)}));
    }
    let mut context: Vec<Value> = facts.notes().iter().map(|note| mrkdwn("", note, TEXT)).collect();
    if let Some(link) = &facts.link {
        // Only `|` and `>` would end it early; the setting is a checked URL.
        context.push(json!({"type": "mrkdwn", "text": format!("<{}|More>", escaped(link, FIELD).replace('|', "%7C"))}));
    }
    if !context.is_empty() {
        blocks.push(json!({"type": "context", "elements": context}));
    }
    json!({"text": escaped(&fallback(facts), TEXT), "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// What a notification on a lock screen shows.
fn fallback(facts: &Facts) -> String {
    let mut text = facts.headline.clone();
    if let Some(pods) = facts.pod_words() {
        text.push_str("; pods: ");
        text.push_str(&pods);
    }
    text
}

fn sign(facts: &Facts) -> &'static str {
    match facts.turn {
        Some(Turn::Notice | Turn::Rescheduled | Turn::Lasting) => ":warning:",
        Some(Turn::Result) if facts.outcomes.is_some_and(|outcomes| outcomes.unfinished > 0) => ":x:",
        Some(Turn::Result) if facts.not_drained.is_some() => ":warning:",
        Some(Turn::Result | Turn::Over) => ":white_check_mark:",
        None => ":information_source:",
    }
}

/// At most ten, in the order in which they matter on a phone.
fn fields(facts: &Facts) -> Vec<(&'static str, String)> {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let place = &facts.place;
    let kind = facts.kind.map(|kind| {
        let detail = facts.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        format!("{}{detail}", kind_words(kind))
    });
    let until = facts.deadline.filter(|_| facts.turn != Some(Turn::Over));
    let all = [
        ("Pods", facts.pod_words()),
        ("Budgets in the way", facts.budget_words().filter(|_| facts.outcomes.is_none())),
        ("Until", until.map(|time| time.to_string())),
        ("Fence", facts.fence.clone().filter(|_| facts.turn != Some(Turn::Over))),
        ("What", kind),
        ("Zone", text(&place.zone)),
        ("Type", text(&place.instance_type)),
        ("Instance", text(&place.instance_id)),
        ("Cluster", facts.cluster.clone()),
        ("Node group", text(&place.nodegroup)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn lists(facts: &Facts) -> Vec<(&'static str, Vec<String>)> {
    let cut = |mut lines: Vec<String>| {
        let more = lines.len().saturating_sub(MOST_NAMED);
        lines.truncate(MOST_NAMED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    };
    let blocked = facts.blocked.iter().map(|one| format!("• {}: {}", one.pod, one.words)).collect();
    let hurt = facts.hurt.iter().map(|pod| format!("• {pod}")).collect();
    let lists = if facts.outcomes.is_some() {
        [("Not with all of their grace", hurt), ("Was refused at first", blocked)]
    } else {
        [("Not let go yet", blocked), ("", Vec::new())]
    };
    let lists = lists.into_iter().filter(|(_, lines)| !lines.is_empty());
    lists.map(|(title, lines)| (title, cut(lines))).collect()
}

fn mrkdwn(before: &str, text: &str, limit: usize) -> Value {
    let room = limit - before.len();
    json!({"type": "mrkdwn", "text": format!("{before}{}", escaped(text, room))})
}

/// The text with its entities, in at most `limit` characters, cut between characters and never inside an entity.
fn escaped(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut buffer = [0; 4];
        let piece = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => &*character.encode_utf8(&mut buffer),
        };
        let size = piece.chars().count();
        let is_last = characters.peek().is_none();
        // The mark that something is missing needs a place, too.
        if length + size + usize::from(!is_last) > limit {
            out.push('…');
            break;
        }
        out.push_str(piece);
        length += size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::facts::tests as samples;
    use proptest::prelude::*;

    /// Every text of a message, with the limit that Slack has for it.
    fn texts(payload: &Value) -> Vec<(String, usize)> {
        let of = |value: &Value| value["text"].as_str().unwrap().to_owned();
        let mut all = vec![(of(payload), TEXT)];
        for block in payload["blocks"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "header" => all.push((of(&block["text"]), HEADER)),
                "section" => {
                    all.extend(block.get("text").map(|text| (of(text), TEXT)));
                    let fields = block.get("fields").and_then(Value::as_array);
                    all.extend(fields.into_iter().flatten().map(|field| (of(field), FIELD)));
                }
                "context" => {
                    let elements = block["elements"].as_array().unwrap();
                    assert!(elements.len() <= 10, "{block}");
                    all.extend(elements.iter().map(|element| (of(element), TEXT)));
                }
                other => panic!("{other}"),
            }
        }
        all
    }

    #[test]
    fn the_messages_are_those_of_the_golden_file() {
        samples::golden("slack.json", &samples::all().map(|(name, facts, ..)| (name, payload(&facts))));
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_slack_takes_or_holds_what_slack_would_read(words in ".{0,4000}", pods in 0_usize..200) {
            let mut facts = samples::notice();
            facts.headline = words.clone();
            facts.detail = Some(words.clone());
            facts.cluster = Some(words.clone());
            facts.place.zone = words.clone();
            facts.blocked = (0..pods).map(|_| crate::notify::facts::Blocked { pod: words.clone(), words: words.clone() }).collect();
            let payload = payload(&facts);
            prop_assert!(payload["blocks"].as_array().unwrap().len() <= 50);
            for (text, limit) in texts(&payload) {
                prop_assert!(!text.is_empty() && text.chars().count() <= limit, "{} > {limit}", text.chars().count());
                let bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!bare.contains(['&', '<', '>']) || text.ends_with("|More>"), "{text}");
            }
        }

        #[test]
        fn what_is_cut_ends_with_a_mark_and_what_fits_is_whole(text in "[a-z&<>é]{0,40}", limit in 1_usize..60) {
            let whole = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let out = escaped(&text, limit);
            prop_assert!(out.chars().count() <= limit);
            prop_assert_eq!(out == whole, whole.chars().count() <= limit);
            prop_assert!(out == whole || out.ends_with('…'));
        }
    }
}
