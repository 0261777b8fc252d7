//! Random requests of several clients at once, against a plain array of bytes.
//!
//! The disk is cut into stretches at random places, each of which belongs to one client; a client
//! touches only its own, but stretches of different clients share sectors. So every client's view
//! is predictable whatever the others do, and every lost or misplaced byte shows.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::client::{Client, FUA, NO_HOLE, READ, TRIM, WRITE_ZEROES, pattern};
use crate::read_modify_write::serve_shuffled;

const SECTORS: u64 = 24;
const BYTES: usize = 24 * 4096;
const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
struct Action {
    kind: Kind,
    stretch: Index,
    begin: Index,
    end: Index,
}

#[derive(Copy, Clone, Debug)]
enum Kind {
    Read,
    Write(u64),
    Zero { flags: u16 },
    Trim,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let kind = prop_oneof![
        2 => Just(Kind::Read),
        4 => any::<u64>().prop_map(Kind::Write),
        2 => prop_oneof![Just(0), Just(NO_HOLE), Just(FUA)].prop_map(|flags| Kind::Zero { flags }),
        1 => Just(Kind::Trim),
    ];
    let action = (kind, any::<Index>(), any::<Index>(), any::<Index>()).prop_map(
        |(kind, stretch, begin, end)| Action {
            kind,
            stretch,
            begin,
            end,
        },
    );
    prop::collection::vec(action, 1..40)
}

/// The stretches' ends: random ones, and some at sectors' edges, so that whole sectors occur too.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let edge = (0..24_usize).prop_map(|sector| sector * 4096);
    let cuts = prop::collection::vec(prop_oneof![edge, 0..BYTES], 2..12);
    cuts.prop_map(|mut cuts| {
        cuts.extend([0, BYTES]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    })
}

/// What one client expects, and a connection of each kind to check it by.
struct Owner {
    simple: Client,
    structured: Client,
    stretches: Vec<(usize, usize)>,
    model: Vec<u8>,
}

impl Owner {
    fn act(&mut self, action: &Action) {
        if self.stretches.is_empty() {
            return;
        }
        let (first, last) = *action.stretch.get(&self.stretches);
        let one = first + action.begin.index(last - first + 1);
        let two = first + action.end.index(last - first + 1);
        let (begin, end) = (one.min(two), one.max(two));
        let offset = u64::try_from(begin).unwrap();
        let length = u32::try_from(end - begin).unwrap();
        match action.kind {
            Kind::Read => {
                assert!(self.simple.read(offset, length) == self.model[begin..end]);
                self.structured.header(0, READ, 1, offset, length);
                assert!(read_chunks(&mut self.structured, begin, end) == self.model[begin..end]);
            }
            Kind::Write(seed) => {
                let data = pattern(seed, end - begin);
                assert_eq!(self.simple.write(offset, &data), 0);
                self.model[begin..end].copy_from_slice(&data);
            }
            Kind::Zero { flags } => {
                assert_eq!(self.simple.call(flags, WRITE_ZEROES, offset, length), 0);
                self.model[begin..end].fill(0);
            }
            Kind::Trim => {
                assert_eq!(self.simple.call(0, TRIM, offset, length), 0);
                let (begin, end) = (begin.next_multiple_of(4096), end / 4096 * 4096);
                if begin < end {
                    self.model[begin..end].fill(0);
                }
            }
        }
    }
}

/// Puts a structured reply together; it must cover the range exactly, in order.
fn read_chunks(client: &mut Client, begin: usize, end: usize) -> Vec<u8> {
    let mut found = Vec::new();
    loop {
        let chunk = client.chunk();
        assert_eq!(chunk.cookie, 1);
        if let Some((offset, rest)) = chunk.payload.split_first_chunk() {
            assert_eq!(
                u64::from_be_bytes(*offset),
                u64::try_from(begin + found.len()).unwrap()
            );
            match chunk.kind {
                1 => found.extend(rest),
                2 => {
                    let length = u32::from_be_bytes(rest.try_into().unwrap());
                    found.resize(found.len() + usize::try_from(length).unwrap(), 0);
                }
                kind => panic!("chunk {kind:#x}"),
            }
        }
        if chunk.done {
            assert_eq!(found.len(), end - begin);
            return found;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_client_finds_what_it_wrote(
        cuts in cuts(),
        actions in prop::array::uniform3(actions()),
        threads in 1..3_usize,
    ) {
        let server = serve_shuffled(SECTORS, threads);
        let stretches: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let models: Vec<Owner> = std::thread::scope(|scope| {
            let owners: Vec<_> = actions
                .iter()
                .enumerate()
                .map(|(place, actions)| {
                    let mut owner = Owner {
                        simple: Client::simple(&server),
                        structured: Client::structured(&server),
                        stretches: stretches.iter().copied().skip(place).step_by(CLIENTS).collect(),
                        model: vec![0; BYTES],
                    };
                    scope.spawn(move || {
                        for action in actions {
                            owner.act(action);
                        }
                        owner
                    })
                })
                .collect();
            owners.into_iter().map(|owner| owner.join().expect("no client sees a fault")).collect()
        });
        let found = Client::simple(&server).read(0, u32::try_from(BYTES).unwrap());
        for (place, (begin, end)) in stretches.into_iter().enumerate() {
            let expected = &models[place % CLIENTS].model[begin..end];
            prop_assert!(&found[begin..end] == expected, "bytes {} to {}", begin, end);
        }
    }
}
