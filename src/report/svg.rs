//! The report as a picture: each pod a bar from its eviction over SIGTERM to its end, against the deadline. Pure.
//!
//! One element per thing, no scripts, nothing from elsewhere, every text escaped. Colours are set by classes, and again
//! for readers who prefer a dark page; nothing is told by colour alone.

use std::fmt::Write as _;

use super::words::{announced, outcome, plain, result, seconds, to_go, whole};
use crate::drain::outcome::Outcome;
use crate::interruption::account::{Account, PodPart};

const WIDTH: f64 = 960.0;
/// Where the time axis begins and ends.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 860.0;
/// Where the first pod is.
const TOP: f64 = 112.0;
const ROW: f64 = 22.0;
const BAR: f64 = 12.0;
/// Of a name no more fits left of the axis.
const LONGEST_NAME: usize = 38;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}.dim{fill:#59636e}\
.bg{fill:#fff}.grid{stroke:#d1d9e0}.mark{stroke:#59636e;stroke-dasharray:3 3}.deadline{stroke:#cf222e;stroke-width:2}\
.late{fill:#cf222e}.blocked{fill:url(#hatch);stroke:#9a6700}.hatch{stroke:#9a6700;stroke-width:2}\
.wanted{fill:none;stroke:#59636e;stroke-dasharray:2 2}.granted{fill:#ddf4ff;stroke:#54aeff}\
.graceful{fill:#1a7f37}.shortened{fill:#9a6700}.forced{fill:#bc4c00}.unfinished{fill:#cf222e}.other{fill:#59636e}\
.term{stroke:#1f2328;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}.bg{fill:#0d1117}.grid{stroke:#3d444d}\
.mark{stroke:#9198a1}.deadline{stroke:#f85149}.late{fill:#f85149}.blocked{stroke:#d29922}.hatch{stroke:#d29922}\
.wanted{stroke:#9198a1}.granted{fill:#121d2f;stroke:#316dca}.graceful{fill:#3fb950}.shortened{fill:#d29922}\
.forced{fill:#db6d28}.unfinished{fill:#f85149}.other{fill:#9198a1}.term{stroke:#f0f6fc}}";

pub(crate) fn svg(account: &Account) -> String {
    let pods = to_go(account);
    let axis = Axis::of(account, &pods);
    let bottom = TOP + ROW * pods.len() as f64 + 4.0;
    let height = bottom + 78.0;
    let mut out = Svg(String::new());
    out.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title\">"
    ));
    let title = format!("Interruption of {}", account.node);
    out.line(format_args!("<title id=\"title\">{}: {}</title>", escaped(&title), escaped(&result(account))));
    out.line(format_args!("<style>{STYLE}</style>"));
    out.line(format_args!(
        "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V6\"/></pattern></defs>"
    ));
    out.line(format_args!("<rect class=\"bg\" width=\"100%\" height=\"100%\"/>"));
    out.text(16.0, 28.0, "title", "start", &title);
    let what: Vec<String> = account.announcements.iter().map(announced).collect();
    let more = if account.dry_run { ", a dry run" } else { "" };
    out.text(16.0, 48.0, "", "start", &format!("{}{more}", what.join("; ")));
    out.text(16.0, 66.0, "dim", "start", &result(account));
    axis.draw(&mut out, bottom);
    marks(account, &axis, &mut out, bottom);
    for (index, pod) in pods.iter().enumerate() {
        bar(pod, &axis, TOP + ROW * index as f64, &mut out);
    }
    legend(&mut out, bottom + 58.0);
    out.line(format_args!("</svg>"));
    out.0
}

/// Seconds to points.
struct Axis {
    end: f64,
    started: String,
}

impl Axis {
    fn of(account: &Account, pods: &[&PodPart]) -> Self {
        let ends = pods.iter().filter_map(|pod| pod.ended);
        let finish = account.drain.as_ref().and_then(|drain| drain.finished.as_ref()).map(|finish| finish.at);
        let work = ends.chain(finish).chain(account.fence.as_ref().map(|fence| fence.at)).fold(0.0, f64::max);
        // A deadline that is hours away would leave no room for what was done.
        let near = account.deadline().map(|at| at + account.shutdown_tail).filter(|at| *at < 20.0 * work.max(30.0));
        let end = near.unwrap_or(0.0).max(work).clamp(1.0, 1e7) * 1.03;
        Self { end, started: whole(account.started).to_string() }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at / self.end).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn shows(&self, at: f64) -> bool {
        at <= self.end
    }

    fn draw(&self, out: &mut Svg, bottom: f64) {
        let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
        let wanted = self.end / 10.0;
        let step = steps.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| (wanted / 3600.0).ceil() * 3600.0);
        let mut at = 0.0;
        while at <= self.end {
            let x = self.x(at);
            out.line(format_args!("<path class=\"grid\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>", TOP - 6.0));
            let label = if step < 1.0 { format!("{at:.1}") } else { format!("{at:.0}") };
            out.text(x, bottom + 16.0, "dim", "middle", &label);
            at += step;
        }
        out.text(LEFT, bottom + 34.0, "dim", "start", &format!("seconds from {}", self.started));
    }
}

/// The fence and what was announced, the deadline, and the end of the tail.
fn marks(account: &Account, axis: &Axis, out: &mut Svg, bottom: f64) {
    // Labels that would stand on each other go to two heights.
    let mut labels: Vec<(f64, String, &str)> = Vec::new();
    for one in account.announcements.iter().filter(|one| axis.shows(one.at)) {
        labels.push((one.at, "notice".to_owned(), "mark"));
    }
    if let Some(fence) = account.fence.as_ref().filter(|fence| axis.shows(fence.at)) {
        labels.push((fence.at, "fence".to_owned(), "mark"));
    }
    if let Some(deadline) = account.deadline().filter(|at| axis.shows(*at)) {
        labels.push((deadline, "deadline".to_owned(), "deadline"));
        if account.shutdown_tail > 0.0 && axis.shows(deadline + account.shutdown_tail) {
            labels.push((deadline + account.shutdown_tail, "power off".to_owned(), "deadline"));
        }
    }
    let mut last_high = f64::NEG_INFINITY;
    for (at, label, class) in labels {
        let x = axis.x(at);
        let high = x - last_high > 60.0;
        let y = if high { TOP - 26.0 } else { TOP - 12.0 };
        if high {
            last_high = x;
        }
        out.line(format_args!("<path class=\"{class}\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>", y + 3.0));
        let (text_class, anchor) = if class == "deadline" { ("late", "end") } else { ("dim", "start") };
        let beside = if anchor == "end" { x - 3.0 } else { x + 3.0 };
        out.text(beside, y, text_class, anchor, &label);
    }
}

fn bar(pod: &PodPart, axis: &Axis, y: f64, out: &mut Svg) {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let begin = pod.asked.or(pod.blocked).or(pod.told).or(pod.ended).unwrap_or(0.0);
    let end = pod.ended.unwrap_or(axis.end);
    out.line(format_args!("<g><title>{}</title>", escaped(&told(pod, &name))));
    out.text(LEFT - 10.0, y + BAR - 1.5, "", "end", &fitted(&name));
    if let Some(told) = pod.told {
        // Grace as an outline behind: what was wanted dashed, what was granted filled.
        if let Some(wanted) = pod.wanted {
            out.rect("wanted", axis.x(told), axis.x(told + wanted), y - 2.0, BAR + 4.0);
        }
        if let Some(granted) = pod.granted {
            out.rect("granted", axis.x(told), axis.x(told + granted), y - 2.0, BAR + 4.0);
        }
    }
    if let Some(blocked) = pod.blocked {
        out.rect("blocked", axis.x(blocked), axis.x(pod.told.unwrap_or(end)), y, BAR);
    }
    let class = match pod.outcome {
        Some(Outcome::Graceful) => "graceful",
        Some(Outcome::Shortened) => "shortened",
        Some(Outcome::Forced) => "forced",
        Some(Outcome::Unfinished) => "unfinished",
        Some(Outcome::Skipped) | None => "other",
    };
    match pod.told {
        Some(told) => {
            if pod.blocked.is_none() {
                out.rect("other", axis.x(begin), axis.x(told), y + BAR / 2.0 - 1.0, 2.0);
            }
            out.rect(class, axis.x(told), axis.x(end), y + 2.0, BAR - 4.0);
            let x = axis.x(told);
            out.line(format_args!("<path class=\"term\" d=\"M{x:.1} {:.1}v{:.1}\"/>", y - 2.0, BAR + 4.0));
        }
        None if pod.blocked.is_none() => out.rect(class, axis.x(begin), axis.x(end), y + 2.0, BAR - 4.0),
        None => {}
    }
    out.text(RIGHT + 12.0, y + BAR - 1.5, "dim", "start", outcome(pod));
    out.line(format_args!("</g>"));
}

/// What a pointer that rests on a bar is told.
fn told(pod: &PodPart, name: &str) -> String {
    let blocked = pod.blocked_seconds().map_or_else(String::new, |blocked| format!(", blocked {blocked:.1} s"));
    format!(
        "{}: {}, asked {}, told {}, gone {}, grace {} of {}{blocked}",
        plain(name),
        outcome(pod),
        seconds(pod.asked),
        seconds(pod.told),
        seconds(pod.ended),
        seconds(pod.granted),
        seconds(pod.wanted),
    )
}

fn legend(out: &mut Svg, y: f64) {
    let entries = [
        ("blocked", "refused by a budget"),
        ("wanted", "grace wanted"),
        ("granted", "grace granted"),
        ("graceful", "graceful"),
        ("shortened", "shortened"),
        ("forced", "forced"),
        ("unfinished", "unfinished"),
    ];
    let mut x = 16.0;
    for (class, label) in entries {
        out.rect(class, x, x + 16.0, y - 9.0, 9.0);
        out.text(x + 22.0, y, "dim", "start", label);
        x += 40.0 + 7.0 * label.len() as f64;
    }
    out.line(format_args!("<path class=\"term\" d=\"M{x:.1} {:.1}v11\"/>", y - 10.0));
    out.text(x + 8.0, y, "dim", "start", "SIGTERM");
}

struct Svg(String);

impl Svg {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        _ = writeln!(self.0, "{line}");
    }

    fn rect(&mut self, class: &str, from: f64, to: f64, y: f64, height: f64) {
        // What takes no time can be seen all the same.
        let width = (to - from).max(1.0);
        self.line(format_args!(
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let anchor = if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        self.line(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"{class}{anchor}>{}</text>", escaped(text)));
    }
}

/// The end of a long name says more than its beginning.
fn fitted(name: &str) -> String {
    let length = name.chars().count();
    if length <= LONGEST_NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().skip(length + 1 - LONGEST_NAME).collect();
    format!("…{kept}")
}

/// XML text; control characters have no place in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
