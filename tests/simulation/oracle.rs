//! The checker held against the definition, on small histories.

use std::collections::HashSet;

use crate::checker::{Action, Event, INITIAL, check};
use crate::dice::Dice;

/// Whether some order of the operations explains the history: tries all of them.
fn linearizable(history: &[Event]) -> bool {
    explains(history, 0, INITIAL, &mut HashSet::new())
}

/// Whether the operations that are not in `done` can follow, with `value` in the sector.
fn explains(history: &[Event], done: u32, value: u64, tried: &mut HashSet<(u32, u64)>) -> bool {
    let open = |at: &usize| done & (1 << at) == 0;
    let left: Vec<usize> = (0..history.len()).filter(open).collect();
    if left.iter().all(|&at| history[at].end.is_none()) {
        return true;
    }
    if !tried.insert((done, value)) {
        return false;
    }
    let first_end = left.iter().filter_map(|&at| history[at].end).min();
    left.into_iter().any(|at| {
        let event = history[at];
        if first_end.is_some_and(|end| end < event.start) {
            return false;
        }
        let next = match event.action {
            Action::Write(written) => written,
            Action::Read(read) if read == value || event.end.is_none() => value,
            Action::Read(_) => return false,
        };
        explains(history, done | 1 << at, next, tried)
    })
}

/// A history as clients of a register could see it; then, sometimes, with one read falsified.
fn random_history(dice: &mut Dice) -> Vec<Event> {
    let count = dice.between(2, 7);
    let longest = dice.pick(&[4, 12, 40]);
    let mut operations = Vec::new();
    for number in 1..=count {
        let start = dice.below(40);
        let effect = start + dice.below(longest);
        let end = effect + 1 + dice.below(longest);
        // Times that never meet those of another operation.
        let [start, effect, end] = [start, effect, end].map(|time| 1 + time * 8 + number);
        let pending = dice.chance(150);
        operations.push((effect, start, (!pending).then_some(end), number));
    }
    operations.sort_unstable();
    let mut value = INITIAL;
    let mut history = Vec::new();
    for (_, start, end, number) in operations {
        let takes_effect = end.is_some() || dice.chance(500);
        let action = if dice.chance(500) {
            value = if takes_effect { number } else { value };
            Action::Write(number)
        } else {
            Action::Read(value)
        };
        history.push(Event { start, end, action });
    }
    if dice.chance(700) {
        falsify(&mut history, dice);
    }
    history
}

/// Some read returns something else: the initial value, or one that was written.
fn falsify(history: &mut [Event], dice: &mut Dice) {
    let mut values = vec![INITIAL];
    let mut reads = Vec::new();
    for (at, event) in history.iter().enumerate() {
        match event.action {
            Action::Write(value) => values.push(value),
            Action::Read(_) => reads.push(at),
        }
    }
    if !reads.is_empty() {
        history[dice.pick(&reads)].action = Action::Read(dice.pick(&values));
    }
}

#[test]
fn the_zone_check_agrees_with_trying_every_order() {
    let mut dice = Dice::new(1);
    let (mut accepted, mut rejected) = (0, 0);
    for round in 0..30_000 {
        let history = random_history(&mut dice);
        let verdict = check(&history);
        assert_eq!(
            verdict.is_ok(),
            linearizable(&history),
            "round {round}: {verdict:?} about {history:#?}"
        );
        if verdict.is_ok() {
            accepted += 1;
        } else {
            rejected += 1;
        }
    }
    assert!(
        accepted > 3_000 && rejected > 3_000,
        "{accepted} accepted and {rejected} rejected prove little"
    );
}

#[test]
fn known_violations_are_found() {
    let event = |start, end, action| Event { start, end, action };
    let write = |start, end, value| event(start, Some(end), Action::Write(value));
    let read = |start, end, value| event(start, Some(end), Action::Read(value));

    let stale = [write(1, 2, 7), read(3, 4, INITIAL)];
    assert!(check(&stale).is_err(), "a read of what was overwritten");
    let back_and_forth = [write(1, 9, 7), read(2, 3, 7), read(4, 5, INITIAL)];
    assert!(check(&back_and_forth).is_err(), "new, then old");
    let twice = [
        event(1, None, Action::Write(7)),
        read(2, 3, 7),
        write(4, 5, 8),
        read(6, 7, 7),
    ];
    assert!(check(&twice).is_err(), "a write that takes effect twice");
    let invented = [read(1, 2, 5)];
    assert!(check(&invented).is_err(), "a value that nobody wrote");
    let late = [
        event(1, None, Action::Write(7)),
        write(2, 3, 8),
        read(4, 5, 8),
        read(6, 9, 7),
    ];
    assert_eq!(check(&late), Ok(()), "an unanswered write may come late");
}
