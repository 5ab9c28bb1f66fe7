//! The live screen of `semel top`. May not live here: what a number means (`super`).
//!
//! Invariant: the terminal is as it was before, however this ends.

use std::time::Duration;

use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::Constraint,
    style::{Color, Style, Stylize as _},
    widgets::{Block, Row, Table},
};

use super::{
    super::{Done, Failure},
    HEADINGS, Line, Looker, cells,
};

/// Draws until `q`, Escape or Ctrl-C.
pub(super) fn watch(name: &str, looker: &mut Looker, every: Duration) -> Done {
    let failed = |error: std::io::Error| Failure::Failed(format!("the terminal: {error}"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let ended = loop {
        let lines = match looker.look() {
            Ok(lines) => lines,
            Err(failure) => break Err(failure),
        };
        if let Err(error) = terminal.draw(|frame| draw(frame, name, &lines)) {
            break Err(failed(error));
        }
        match enough(every) {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(failed(error)),
        }
    };
    ratatui::restore();
    ended
}

/// Waits for the next look; `true` once a person has seen enough.
fn enough(every: Duration) -> std::io::Result<bool> {
    if !event::poll(every)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else { return Ok(false) };
    let ends = match key.code {
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        code => matches!(code, KeyCode::Char('q') | KeyCode::Esc),
    };
    Ok(ends && key.kind == KeyEventKind::Press)
}

fn draw(frame: &mut Frame<'_>, name: &str, lines: &[Line]) {
    let rows = lines.iter().map(|line| {
        let style = match &line.row {
            row if row.paused => Style::new().fg(Color::Yellow),
            row if row.dead_letters > 0 => Style::new().fg(Color::Red),
            row if row.lag > 0 => Style::new().fg(Color::Cyan),
            _ => Style::new(),
        };
        Row::new(cells(line)).style(style)
    });
    let widest = lines.iter().map(|line| line.row.name.chars().count()).max().unwrap_or(5);
    let first = Constraint::Length(u16::try_from(widest.clamp(5, 40)).unwrap_or(40));
    let widths = [first].into_iter().chain([Constraint::Min(9); HEADINGS.len() - 1]);
    let table = Table::new(rows, widths)
        .header(Row::new(HEADINGS).bold())
        .column_spacing(2)
        .block(Block::bordered().title(format!(" {name} ")).title_bottom(" q: end "));
    frame.render_widget(table, frame.area());
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use semel::admin::top::TopRow;

    use super::{super::rates, *};

    #[test]
    fn every_stage_has_a_line() {
        let rows = ["chain", "settle"].map(|name| TopRow {
            name: name.to_owned(),
            partitions: 4,
            here: 4,
            lag: 7,
            records_in: Some(12),
            ..TopRow::default()
        });
        let lines = rates(&rows, &rows, Duration::from_secs(1));
        let mut terminal = Terminal::new(TestBackend::new(110, 6)).unwrap();
        terminal.draw(|frame| draw(frame, "attention", &lines)).unwrap();
        let shown = terminal.backend().to_string();
        for text in ["attention", "stage", "chain", "settle", "behind", "4/4", "q: end"] {
            assert!(shown.contains(text), "`{text}` is not in\n{shown}");
        }
    }
}
