//! A vector with one element for each sector of a range, stored as runs of equal elements.

/// One element a sector, neighbours that are equal kept once: what a process knows of a terabyte
/// that was never written is one run.
///
/// Neighbouring runs always differ, so two vectors are equal when their runs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs<T> {
    runs: Vec<(u32, T)>,
    count: u32,
}

impl<T: Copy + PartialEq> Runs<T> {
    /// No element at all.
    pub const fn new() -> Self {
        Self {
            runs: Vec::new(),
            count: 0,
        }
    }

    /// `count` times the same element.
    pub fn uniform(count: u32, element: T) -> Self {
        let mut runs = Self::new();
        runs.push(count, element);
        runs
    }

    /// Appends `count` times `element`, merged with the run before where that is equal.
    ///
    /// # Panics
    /// When there would be more than `u32::MAX` elements.
    pub fn push(&mut self, count: u32, element: T) {
        if count == 0 {
            return;
        }
        self.count = self
            .count
            .checked_add(count)
            .expect("a range counts its sectors in 32 bits");
        match self.runs.last_mut() {
            Some((length, last)) if *last == element => *length += count,
            _ => self.runs.push((count, element)),
        }
    }

    /// Keeps the first `count` elements only.
    pub fn truncate(&mut self, count: u32) {
        while self.count > count {
            let (length, _) = self.runs.last_mut().expect("elements lie in runs");
            let excess = self.count - count;
            if *length > excess {
                *length -= excess;
                self.count = count;
            } else {
                self.count -= *length;
                self.runs.pop();
            }
        }
    }

    /// How many elements there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The element at `offset`, if there are as many.
    pub fn at(&self, offset: u32) -> Option<T> {
        let mut end = 0;
        self.runs.iter().find_map(|&(length, element)| {
            end += length;
            (offset < end).then_some(element)
        })
    }

    /// The one element that all are, if they are equal and there is one.
    pub fn as_uniform(&self) -> Option<T> {
        match self.runs[..] {
            [(_, element)] => Some(element),
            _ => None,
        }
    }

    /// The runs in order: how many elements, and which.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, T)> + Clone {
        self.runs.iter().copied()
    }

    /// The runs in order with their offsets: offset, count, element.
    pub fn spans(&self) -> impl Iterator<Item = (u32, u32, T)> + Clone {
        self.runs.iter().scan(0, |offset, &(count, element)| {
            let start = *offset;
            *offset += count;
            Some((start, count, element))
        })
    }

    /// How many runs there are: what the vector costs to keep and to send.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Each element through `f`.
    pub fn map<U: Copy + PartialEq>(&self, mut f: impl FnMut(T) -> U) -> Runs<U> {
        let mut mapped = Runs::new();
        for (count, element) in self.iter() {
            mapped.push(count, f(element));
        }
        mapped
    }

    /// Element by element with `other`, as far as the shorter goes.
    pub fn zip<U, V>(&self, other: &Runs<U>, mut f: impl FnMut(T, U) -> V) -> Runs<V>
    where
        U: Copy + PartialEq,
        V: Copy + PartialEq,
    {
        let mut zipped = Runs::new();
        let (mut ours, mut theirs) = (self.iter(), other.iter());
        let (mut our_run, mut their_run) = (ours.next(), theirs.next());
        while let (Some((our_count, a)), Some((their_count, b))) = (our_run, their_run) {
            let count = our_count.min(their_count);
            zipped.push(count, f(a, b));
            let rest = |left: u32, element| (left > 0).then_some((left, element));
            our_run = rest(our_count - count, a).or_else(|| ours.next());
            their_run = match their_count - count {
                0 => theirs.next(),
                left => Some((left, b)),
            };
        }
        zipped
    }
}

impl<T: Copy + PartialEq> Default for Runs<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + PartialEq> FromIterator<T> for Runs<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut runs = Self::new();
        for element in elements {
            runs.push(1, element);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded<T: Copy + PartialEq>(runs: &Runs<T>) -> Vec<T> {
        (0..runs.count())
            .map(|offset| runs.at(offset).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn runs_are_the_vector_they_stand_for(
            a in prop::collection::vec(0u8..3, 0..40),
            b in prop::collection::vec(0u8..3, 0..40),
            cut in 0u32..50,
        ) {
            let runs: Runs<u8> = a.iter().copied().collect();
            prop_assert_eq!(expanded(&runs), a.clone());
            prop_assert!(runs.iter().zip(runs.iter().skip(1)).all(|(x, y)| x.1 != y.1));

            let zipped = runs.zip(&b.iter().copied().collect(), |x, y| x * 3 + y);
            let expected: Vec<u8> = a.iter().zip(&b).map(|(x, y)| x * 3 + y).collect();
            prop_assert_eq!(expanded(&zipped), expected);

            let mut short = runs.clone();
            short.truncate(cut);
            let kept = a.len().min(cut as usize);
            prop_assert_eq!(expanded(&short), a[..kept].to_vec());
            prop_assert_eq!(runs.spans().map(|(_, count, _)| count).sum::<u32>(), runs.count());
        }
    }

    #[test]
    fn equal_elements_are_one_run() {
        let mut runs = Runs::uniform(1 << 28, 0);
        assert_eq!(runs.as_uniform(), Some(0));
        runs.push(0, 1);
        runs.push(1, 0);
        assert_eq!(runs.run_count(), 1);
        runs.push(1, 1);
        assert_eq!(runs.as_uniform(), None);
        assert_eq!(runs.at(1 << 29), None);
    }
}
