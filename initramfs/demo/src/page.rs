//! The page: one document, nothing loaded from elsewhere, light or dark as the reader's system is.

use crate::facts::{Fact, Facts};
use std::fmt::Write as _;
use std::time::Duration;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f6f5f1;--card:#fff;--text:#1d2528;--soft:#5c686d;--line:#e2e0d8;--accent:#0b6e6e;--good:#1a7f4b;--bad:#b3421f}\
@media(prefers-color-scheme:dark){:root{--back:#12181b;--card:#1a2226;--text:#e6eaeb;--soft:#97a5ab;--line:#2b363b;--accent:#5cc8c0;--good:#62c98d;--bad:#f09a76}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif}\
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}\
h1{font-size:clamp(1.7rem,5vw,2.5rem);line-height:1.15;margin:0 0 .5rem;letter-spacing:-.02em;overflow-wrap:anywhere}\
h2{font-size:1.05rem;margin:0 0 .75rem}p{margin:0 0 1rem;color:var(--soft);max-width:44rem}\
.over{color:var(--accent);font-weight:600;letter-spacing:.04em;margin:0 0 .25rem}\
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));margin-top:1.75rem}\
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.1rem 1.25rem;min-width:0}\
.wide{grid-column:1/-1}dl{margin:0;display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem}\
dt{color:var(--soft)}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}\
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-top:1px solid var(--line);vertical-align:top}\
th{color:var(--soft);font-weight:500;border:0}code{font:.9em ui-monospace,monospace}\
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}footer{margin-top:2rem;color:var(--soft);font-size:.9rem}";

pub(crate) fn render(facts: &Facts) -> String {
    let mut page = String::with_capacity(16 << 10);
    // Writing to a String cannot fail; the macro's result is of no use here.
    macro_rules! put {
        ($($part:tt)*) => { { let _ = write!(page, $($part)*); } };
    }
    let host = escape(&facts.hostname);
    put!("<!doctype html><html lang=en><meta charset=utf-8><title>{host} · Orlop</title>");
    put!("<meta name=viewport content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style><main>");
    put!("<p class=over>Orlop is running</p><h1>Hello from {host}</h1>");
    put!(
        "<p>This page comes out of a container: one small program, started and watched by the supervisor. Below is all "
    );
    put!("it can find out about itself and the machine around it.</p><div class=cards>");

    put!("<section><h2>Time</h2><dl><dt>This container</dt><dd>{}</dd>", duration(facts.container_uptime));
    let machine = facts.machine_uptime.map_or_else(|| "not visible".to_owned(), duration);
    put!("<dt>The machine</dt><dd>{machine}</dd></dl></section>");
    put!("<section><h2>Limits</h2>{}</section>", list(&facts.limits));
    put!("<section><h2>Identity</h2>{}</section>", list(&facts.identity));

    let closed = facts.attempts.iter().filter(|attempt| attempt.closed).count();
    let all = facts.attempts.len();
    put!("<section class=wide><h2>What it tried, and should not be able to ({closed} of {all} closed)</h2>");
    put!("<div class=scroll><table>");
    for attempt in &facts.attempts {
        let class = if attempt.closed { "good" } else { "bad" };
        put!("<tr><td>{}<td class={class}>{}", escape(attempt.what), escape(&attempt.outcome));
    }
    put!("</table></div></section>");

    put!("<section class=wide><h2>Mounts</h2><div class=scroll><table><tr><th>At<th>Kind<th>Options");
    for mount in &facts.mounts {
        let options = escape(&mount.options);
        put!("<tr><td><code>{}</code><td>{}<td><code>{options}</code>", escape(&mount.at), escape(&mount.kind));
    }
    put!("</table></div></section></div><footer>To replace this demo, put a unit file of your own, or a link to ");
    put!("<code>/dev/null</code>, at <code>/etc/containers.d/demo.container</code>. ");
    put!("For health checks there is <code>/health</code>.</footer></main></html>\n");
    page
}

fn list(facts: &[Fact]) -> String {
    let rows = facts.iter().fold(String::new(), |mut rows, (name, value)| {
        let value = value.as_deref().unwrap_or("not visible");
        let _ = write!(rows, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
        rows
    });
    format!("<dl>{rows}</dl>")
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1} s", time.as_secs_f64()),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Names and paths come from outside; none of them is markup.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Attempt, Mount};

    #[test]
    fn what_the_container_sees_is_on_the_page_and_is_no_markup() {
        let facts = Facts {
            hostname: "a<b>".to_owned(),
            container_uptime: Duration::from_secs(61),
            machine_uptime: None,
            limits: vec![("Memory".to_owned(), Some("1 of 64 MiB".to_owned())), ("Processor".to_owned(), None)],
            mounts: vec![Mount { at: "/data\"&".into(), kind: "xfs".into(), options: "rw".into() }],
            attempts: vec![Attempt { what: "Read the disks", outcome: "not there".into(), closed: true }],
            ..Facts::default()
        };
        let page = render(&facts);
        for expected in
            ["a&lt;b&gt;", "1 min 1 s", "not visible", "1 of 64 MiB", "/data&quot;&amp;", "1 of 1 closed", "not there"]
        {
            assert!(page.contains(expected), "{expected}");
        }
        assert!(!page.contains("<b>"));
        assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    }

    #[test]
    fn durations_are_told_by_their_size() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([of(59), of(3599), of(86_399), of(90_000)], ["59.0 s", "59 min 59 s", "23 h 59 min", "1 d 1 h"]);
    }
}
