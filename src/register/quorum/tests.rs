use super::*;
use crate::domain::{Generation, Incarnation};
use proptest::prelude::*;

fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        timestamp,
        rank: (timestamp > 0).then(|| Rank::new(1).unwrap()),
        incarnation: Incarnation(u32::from(timestamp > 0)),
        ..Stamp::ZERO
    }
}

fn any_vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        1 => Just(Vote::Lost),
        3 => (0u64..3, 0u64..3).prop_map(|(timestamp, settled)| {
            Vote::Stamp(stamp(timestamp).settled_under(Generation(settled)))
        }),
    ]
}

/// Answers of different processes, often uniform, often of different lengths.
fn any_answers(sectors: u32) -> impl Strategy<Value = Vec<Vec<Vote>>> {
    let length = usize::try_from(sectors).unwrap();
    let answer = prop_oneof![
        prop::collection::vec(any_vote(), length),
        prop::collection::vec(any_vote(), 1..=length),
        any_vote().prop_map(move |vote| vec![vote; length]),
    ];
    prop::collection::vec(answer, 0..=5)
}

/// The definition, sector by sector.
fn judged_slowly(processes: u8, sectors: u32, answers: &[Vec<Vote>]) -> Verdict {
    let majority = usize::from(processes) / 2 + 1;
    let mut decided = Vec::new();
    let mut enough = true;
    for sector in 0..usize::try_from(sectors).unwrap() {
        let votes = answers.iter().filter_map(|answer| answer.get(sector));
        let (lost, intact): (Vec<Vote>, Vec<Vote>) = votes.partition(|&&vote| vote == Vote::Lost);
        if lost.len() + majority > usize::from(processes) {
            return Verdict::Unreadable;
        }
        if intact.len() >= majority && decided.len() == sector {
            let highest = intact.iter().max().unwrap().stamp().unwrap();
            let holders = intact
                .iter()
                .filter(|&&vote| vote == Vote::Stamp(highest))
                .count();
            let holders = u8::try_from(holders).unwrap();
            decided.push(Agreed { highest, holders });
        } else if decided.len() == sector {
            let everyone = answers.len() == usize::from(processes);
            enough = everyone || lost.len() + intact.len() < majority;
        }
    }
    if decided.is_empty() || !enough {
        Verdict::Undecided
    } else {
        Verdict::Decided(decided.into_iter().collect())
    }
}

proptest! {
    #[test]
    fn a_verdict_is_that_of_each_sector(
        (processes, sectors, answers) in (1u8..=5, 1u32..6).prop_flat_map(|(processes, sectors)| {
            (Just(processes), Just(sectors), any_answers(sectors))
        }),
        generation in 0u64..3,
    ) {
        let most = usize::from(processes);
        let answers = &answers[..answers.len().min(most)];
        let runs: Vec<Runs<Vote>> =
            answers.iter().map(|answer| answer.iter().copied().collect()).collect();
        let verdict = judge(processes, sectors, runs.iter());
        prop_assert_eq!(&verdict, &judged_slowly(processes, sectors, answers));
        if answers.len() == most {
            prop_assert!(verdict != Verdict::Undecided, "everyone has answered");
        }
        let Verdict::Decided(decided) = verdict else {
            return Ok(());
        };
        let generation = Generation(generation);
        let mut unmet = Vec::new();
        for offset in 0..decided.count() {
            let Agreed { highest, holders } = decided.at(offset).unwrap();
            let enough = if highest.settled < generation {
                processes
            } else {
                majority(processes)
            };
            if holders < enough {
                unmet.push((highest.settled < generation, usize::from(holders)));
            }
        }
        let expected = match &unmet[..] {
            [] => Standing::Stands,
            _ if unmet.iter().all(|&unmet| unmet == (true, answers.len())) => Standing::MayStand,
            _ => Standing::Lacks,
        };
        prop_assert_eq!(standing(processes, generation, answers.len(), &decided), expected);
        for votes in runs.iter().map(Some).chain([None]) {
            let owed = owed(processes, generation, &decided, votes);
            prop_assert_eq!(owed.count(), decided.count());
            for offset in 0..decided.count() {
                let agreed = decided.at(offset).unwrap();
                let vote = votes.and_then(|votes| votes.at(offset));
                let expected = owed_slowly(processes, generation, agreed, vote);
                prop_assert_eq!(owed.at(offset), Some(expected));
            }
        }
    }
}

/// The definition, for one sector and one process.
fn owed_slowly(processes: u8, generation: Generation, agreed: Agreed, vote: Option<Vote>) -> Owed {
    let Agreed { highest, holders } = agreed;
    let unsettled = highest.settled < generation;
    if holders == processes || !unsettled && holders >= majority(processes) {
        return Owed::Nothing;
    }
    match vote {
        Some(vote) if vote == Vote::Stamp(highest) && !unsettled => Owed::Nothing,
        Some(Vote::Stamp(stamp))
            if holders >= majority(processes)
                && Stamp {
                    settled: highest.settled,
                    ..stamp
                } == highest =>
        {
            Owed::Unchanged
        }
        _ => Owed::Value,
    }
}

#[test]
fn any_two_majorities_share_a_process_and_a_minority_may_be_missing() {
    for processes in 1..=Rank::MAX {
        let majority = u16::from(majority(processes));
        assert!(2 * majority > u16::from(processes));
        assert!(2 * (majority - 1) <= u16::from(processes));
    }
}

#[test]
fn a_process_counts_once() {
    let mut ranks = Ranks::default();
    for rank in Rank::all(Rank::MAX) {
        assert!(!ranks.contains(rank));
        assert!(ranks.insert(rank));
        assert!(!ranks.insert(rank));
        assert!(ranks.contains(rank));
        assert_eq!(ranks.count(), rank.number());
    }
    for rank in Rank::all(Rank::MAX) {
        ranks.remove(rank);
        ranks.remove(rank);
        assert!(!ranks.contains(rank));
        assert_eq!(ranks.count(), Rank::MAX - rank.number());
    }
}

#[test]
fn one_lost_copy_of_three_waits_for_the_third() {
    let (lost, zero) = (Runs::uniform(1, Vote::Lost), Runs::uniform(1, Vote::ZERO));
    let judge = |votes: &[&Runs<Vote>]| judge(3, 1, votes.iter().copied());
    assert_eq!(judge(&[&lost, &zero]), Verdict::Undecided);
    assert!(matches!(judge(&[&lost, &zero, &zero]), Verdict::Decided(_)));
    assert_eq!(judge(&[&lost, &lost]), Verdict::Unreadable);
}
