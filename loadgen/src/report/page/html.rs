//! Pieces of the page that all its parts use.
//!
//! Here: figures, legends, tables, sentences. Not here: what they hold.
//!
//! Invariant: what is handed in as a text is escaped; what is handed in as cells or drawings is HTML.

use std::fmt::Write as _;

use plotters::prelude::RGBColor;

use super::chart::{self, Chart};
use crate::report::format::escape;

/// Returns a remark in place of what is missing.
pub(super) fn sentence(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(text))
}

/// Returns a drawing with a name for those who do not see it.
pub(super) fn figure(name: &str, svg: &str) -> String {
    format!(
        "<figure role=\"img\" aria-label=\"{}\">{svg}</figure>\n",
        escape(name)
    )
}

/// Returns a chart below its legend.
pub(super) fn chart(name: &str, chart: &Chart) -> String {
    let mut out = String::new();
    if chart.lines.len() > 1 {
        out.push_str("<p class=\"legend\">");
        for line in &chart.lines {
            let (class, name) = (class(line.color), escape(&line.name));
            let _cannot_fail = write!(out, "<span><i class=\"{class}\"></i>{name}</span> ");
        }
        out.push_str("</p>\n");
    }
    out + &figure(name, &chart.svg())
}

/// Returns the class of a colour.
pub(super) fn class(color: RGBColor) -> String {
    format!("c-{}", &chart::css(color)[1..])
}

/// Returns a table; the first column names the rows, the others are numbers.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<div class=\"wide\"><table>\n");
    if !head.is_empty() {
        out.push_str("<thead><tr>");
        for name in head {
            let _cannot_fail = write!(out, "<th scope=\"col\">{}</th>", escape(name));
        }
        out.push_str("</tr></thead>\n");
    }
    out.push_str("<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let _cannot_fail = match place {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Returns names and values, two pairs beside each other where there is room.
pub(super) fn facts(pairs: &[(String, String)]) -> String {
    let mut out = String::from("<dl>\n");
    for (name, value) in pairs {
        let (name, value) = (escape(name), escape(value));
        let _cannot_fail = writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
    out
}

/// Returns a part of the page.
pub(super) fn section(title: &str, content: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n{content}</section>\n",
        escape(title)
    )
}
