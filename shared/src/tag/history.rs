//! Where a tag has pointed before: a note on its webhook, which `undo` follows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::installation::annotation;
use crate::labels;

/// So many moves are remembered.
const REMEMBERED: usize = 10;

/// One move of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The revision that the tag pointed to before; `None` when the move made it.
    pub from: Option<String>,
    /// When it was, RFC 3339.
    pub time: String,
    /// The version of the plugin that did it.
    pub version: String,
    /// Whether it was taken back. It stays until the next move, so that an `undo` that was interrupted is not taken for one
    /// that is still to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

/// The moves of a tag, the newest last. An annotation that cannot be read counts as none.
pub fn history(webhook: &Value) -> Vec<Move> {
    annotation(webhook, labels::HISTORY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The annotation with one more move, in the place of one that was taken back.
pub(super) fn with_move(mut moves: Vec<Move>, new: Move) -> Vec<Move> {
    moves.retain(|one| !one.undone);
    moves.push(new);
    let surplus = moves.len().saturating_sub(REMEMBERED);
    moves.drain(..surplus);
    moves
}

/// The annotation with the newest move taken back.
pub(super) fn with_undo(mut moves: Vec<Move>) -> Vec<Move> {
    moves.retain(|one| !one.undone);
    if let Some(last) = moves.last_mut() {
        last.undone = true;
    }
    moves
}

/// As the annotation's text.
pub(super) fn text(moves: &[Move]) -> String {
    serde_json::to_string(moves).expect("moves are plain texts")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn to(from: &str) -> Move {
        Move { from: Some(from.to_owned()), time: "2026-01-01T00:00:00Z".to_owned(), version: "0.1.0".to_owned(), undone: false }
    }

    #[test]
    fn a_move_that_was_taken_back_is_remembered_until_the_next_one() {
        let froms = |moves: &[Move]| moves.iter().filter_map(|one| one.from.clone()).collect::<Vec<_>>();
        let moves = with_undo(vec![to("a"), to("b")]);
        assert_eq!((froms(&moves), moves[0].undone, moves[1].undone), (vec!["a".to_owned(), "b".to_owned()], false, true));
        assert_eq!(froms(&with_move(moves, to("c"))), ["a", "c"]);
        // Moves of a version that knew nothing of this were not taken back.
        let older = json!({"metadata": {"annotations": {labels::HISTORY: r#"[{"from":"a","time":"t","version":"0"}]"#}}});
        assert!(!history(&older)[0].undone);
        assert!(!text(&history(&older)).contains("undone"));
    }

    #[test]
    fn only_the_newest_moves_are_remembered() {
        let moves = (0..15).fold(Vec::new(), |moves, number| with_move(moves, to(&number.to_string())));
        assert_eq!((moves.len(), moves[0].from.as_deref(), moves[9].from.as_deref()), (10, Some("5"), Some("14")));
        let webhook = json!({"metadata": {"annotations": {labels::HISTORY: text(&moves)}}});
        assert_eq!(history(&webhook), moves);
        assert_eq!(history(&json!({"metadata": {"annotations": {labels::HISTORY: "no JSON"}}})), []);
    }
}
