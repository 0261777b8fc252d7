//! What a seed decides before anything happens: how large, how busy and how unlucky the cluster is.

use crate::dice::Dice;

/// The odds of one simulation. Times are in ticks; a message takes about ten.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) processes: u8,
    /// Registers of each process.
    pub(crate) shards: u8,
    pub(crate) sectors: u64,
    /// The first sector that is not the first register's.
    pub(crate) boundary: u64,
    pub(crate) crowd: Crowd,
    pub(crate) operations_per_client: u64,
    /// The longest range of an operation.
    pub(crate) range_max: u64,
    /// Reads out of a thousand operations.
    pub(crate) reads: u64,
    /// Discards out of a thousand operations; the others are writes.
    pub(crate) discards: u64,
    pub(crate) think_max: u64,
    pub(crate) queue_max: usize,
    pub(crate) delay_max: u64,
    /// Messages that take twenty times as long.
    pub(crate) slow: u64,
    pub(crate) duplicated: u64,
    /// Messages of a broken connection that arrive nevertheless, perhaps after those of the next.
    pub(crate) late: u64,
    pub(crate) sync_max: u64,
    /// How long a record of a fence takes.
    pub(crate) record_max: u64,
    /// Loads that the store answers at once.
    pub(crate) loads_at_once: u64,
    /// Loads whose votes end before their range does.
    pub(crate) short_votes: u64,
    /// What one worker of a process has for another, and that it gets late; by how much.
    pub(crate) lag: u64,
    pub(crate) lag_max: u64,
    /// After which time more than a majority is waited for no longer.
    pub(crate) patience_max: u64,
    /// The mean time from one crash to the next, of all processes together.
    pub(crate) crash_every: u64,
    pub(crate) down_max: u64,
    /// Crashes within a step, between two outputs around a store.
    pub(crate) aimed: u64,
    /// Unsynced stores that a crash leaves on the disk nevertheless.
    pub(crate) survive: u64,
    /// The mean time from one crash of all processes to the next. 0 for never.
    pub(crate) blackout_every: u64,
    /// The mean time from one pause of a process to the next. 0 for never.
    pub(crate) pause_every: u64,
    pub(crate) pause_max: u64,
    pub(crate) cut_every: u64,
    pub(crate) cut_max: u64,
    /// Cuts of one direction only, which nobody notices until the connection breaks.
    pub(crate) one_way: u64,
    /// Copies that rot: the mean time between two. 0 for never.
    pub(crate) rot_every: u64,
    /// So many copies of a sector may be damaged that no majority is left.
    pub(crate) rot_of_majorities: bool,
    /// When faults end.
    pub(crate) calm_from: u64,
}

/// Who uses the disk, and how.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    /// Classic clients of each process: under its own shared attachment, and under generation 0
    /// while there was no other.
    pub(crate) classic: usize,
    /// Hosts that want the disk for themselves.
    pub(crate) hosts: usize,
    /// Devices of two gateways that join one exclusive attachment.
    pub(crate) devices: u8,
    /// Hosts that share the disk.
    pub(crate) sharing: usize,
    /// Clients that only read.
    pub(crate) readers: usize,
    /// Operations of a client that are under way together.
    pub(crate) depth: usize,
    /// Attaches out of a thousand that fence whoever holds the disk.
    pub(crate) take_over: u64,
    /// The mean time from one loss of some client's session to the next. 0 for never.
    pub(crate) loss_every: u64,
    /// Losses at which the client itself dies, and forgets everything.
    pub(crate) deaths: u64,
    /// How long a process may take to see that a session is over.
    pub(crate) notice_max: u64,
    /// How long what a client and its process say to one another takes.
    pub(crate) talk_max: u64,
    /// Attachments of a client end after so many operations; another one follows.
    pub(crate) stay_max: u64,
    /// Granted attachments whose process settles ahead of need.
    pub(crate) settled_ahead: u64,
}

impl Scenario {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let rot = dice.chance(300);
        let range_max = dice.pick(&[1, 1, 2, 4]);
        let sectors = dice.between(range_max, 5);
        let calm_from = dice.between(500, 3000);
        let processes = dice.pick(&[3, 3, 3, 3, 3, 1, 2, 4, 5, 5]);
        let crowd = if dice.chance(250) {
            Crowd::classic(dice)
        } else {
            Crowd::attaching(dice)
        };
        let operations = dice.between(8, 25);
        let many = u64::try_from(crowd.count(processes)).unwrap();
        Self {
            processes,
            shards: dice.pick(&[1, 2]),
            sectors,
            boundary: dice.between(0, sectors),
            crowd,
            operations_per_client: if many < 3 { 4 * operations } else { operations },
            range_max,
            reads: dice.pick(&[300, 500, 700]),
            discards: dice.pick(&[0, 50, 200]),
            think_max: dice.pick(&[1, 20, 100]),
            queue_max: dice.pick(&[0, 1, 100, 100]),
            delay_max: dice.pick(&[2, 20, 20, 60]),
            slow: dice.pick(&[0, 5, 50]),
            duplicated: dice.pick(&[0, 20, 200]),
            late: dice.pick(&[0, 100, 500]),
            sync_max: dice.pick(&[2, 30, 100]),
            record_max: dice.pick(&[2, 30, 200]),
            loads_at_once: dice.pick(&[0, 500, 1000]),
            short_votes: dice.pick(&[0, 0, 100]),
            lag: dice.pick(&[0, 100, 500]),
            lag_max: dice.pick(&[1, 10, 50]),
            patience_max: dice.pick(&[1, 50, 400]),
            crash_every: dice.pick(&[150, 500, 1500]),
            down_max: dice.pick(&[10, 100, 500]),
            aimed: dice.pick(&[0, 10, 30]),
            survive: dice.pick(&[0, 300, 700]),
            blackout_every: dice.pick(&[0, 0, 1500]),
            pause_every: dice.pick(&[0, 200, 600]),
            pause_max: dice.pick(&[50, 400]),
            cut_every: dice.pick(&[100, 400, 1600]),
            cut_max: dice.pick(&[20, 200, 600]),
            one_way: dice.pick(&[300, 300, 800]),
            rot_every: if rot { dice.pick(&[50, 200, 800]) } else { 0 },
            rot_of_majorities: rot && dice.chance(200),
            calm_from,
        }
    }

    /// The clients have one sector between them, and its register.
    pub(crate) fn use_one_sector(&mut self) {
        self.sectors = 1;
        self.range_max = 1;
        self.boundary = 0;
    }

    /// Messages and disks take as good as no time.
    pub(crate) fn hurry(&mut self) {
        self.delay_max = 2;
        self.sync_max = 2;
        self.record_max = 2;
    }

    /// Which register of a process has the sector of this index, and where its sectors end.
    pub(crate) fn shard(&self, index: u64) -> (u8, u64) {
        if self.shards > 1 && index < self.boundary {
            (1, self.boundary)
        } else {
            (0, self.sectors)
        }
    }
}

impl Crowd {
    /// Nobody attaches.
    pub(crate) fn classic(dice: &mut Dice) -> Self {
        Self {
            classic: dice.pick(&[1, 1, 2, 3]),
            hosts: 0,
            devices: 0,
            sharing: 0,
            readers: 0,
            depth: 1,
            take_over: 0,
            loss_every: 0,
            deaths: 0,
            notice_max: 1,
            talk_max: 0,
            stay_max: 1,
            settled_ahead: 0,
        }
    }

    /// Somebody does. Few together often enough: what goes on after a failover is soon fenced off
    /// where many want the same.
    fn attaching(dice: &mut Dice) -> Self {
        let [classic, hosts, sharing, readers] = match dice.below(6) {
            0 | 1 => [0, 1, 0, dice.below(2)],
            2 => [0, dice.between(2, 3), 0, dice.below(2)],
            3 => [
                dice.below(2),
                dice.below(2),
                dice.between(2, 3),
                dice.below(2),
            ],
            4 => [0, dice.below(2), 0, dice.below(2)],
            _ => [dice.below(2), dice.below(3), dice.below(3), dice.below(3)],
        }
        .map(|count| usize::try_from(count).unwrap());
        let somebody = hosts + sharing > 0;
        let devices = if somebody {
            dice.pick(&[0, 0, 0, 1])
        } else {
            1
        };
        Self {
            classic,
            hosts,
            devices,
            sharing,
            readers,
            depth: dice.pick(&[1, 2, 4]),
            take_over: dice.pick(&[0, 50, 300, 1000]),
            loss_every: dice.pick(&[0, 80, 200, 500]),
            deaths: dice.pick(&[0, 0, 200, 600]),
            notice_max: dice.pick(&[10, 100, 600]),
            talk_max: dice.pick(&[0, 0, 5, 40]),
            stay_max: dice.pick(&[5, 25, 100]),
            settled_ahead: dice.pick(&[0, 200, 1000]),
        }
    }

    /// The same habits, and nobody who has them.
    pub(crate) fn without_anybody(&self) -> Self {
        Self {
            classic: 0,
            hosts: 0,
            devices: 0,
            sharing: 0,
            readers: 0,
            ..self.clone()
        }
    }

    /// How many clients there are in a cluster of so many processes.
    fn count(&self, processes: u8) -> usize {
        let of_devices = 2 * usize::from(self.devices);
        let of_processes = self.classic * usize::from(processes);
        of_processes + self.hosts + of_devices + self.sharing + self.readers
    }
}
