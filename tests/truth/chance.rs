//! Chance that can be repeated: SplitMix64 (Steele, Lea and Flood, 2014).

/// A sequence of numbers that a seed determines.
pub struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of them, each as likely.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.place(of.len())]
    }

    /// One of some words.
    pub fn word<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.place(of.len())]
    }

    fn place(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).expect("a slice is shorter than 2^64");
        usize::try_from(self.next() % length).expect("it is less than a slice's length")
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}
