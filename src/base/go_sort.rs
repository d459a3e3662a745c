//! The order in which Go's `sort.Sort` leaves elements that compare as equal: pattern-defeating quicksort, step by step as in Go's
//! library since 1.19 (Go's `sort/zsortinterface.go`).
//!
//! etcd stores the permissions of a role in this order, so members of both kinds store the same bytes only if both sort alike.

/// Below this length a slice is sorted by insertion.
const INSERTION_MAX: usize = 12;
/// Below this length pairs out of order are not shifted, and the pivot is a median of three.
const SHORT: usize = 50;
const STEPS_MAX: usize = 5;
const SWAPS_MAX: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Increasing,
    Decreasing,
    Unknown,
}

/// Sorts by `less` as Go does.
pub fn sort<T>(data: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let length = data.len();
    if length <= 1 {
        return;
    }
    let limit = bits(length);
    Sorter { data, less }.sort(0, length, limit);
}

fn bits(number: usize) -> u32 {
    usize::BITS - number.leading_zeros()
}

struct Sorter<'d, T, L> {
    data: &'d mut [T],
    less: L,
}

impl<T, L: Fn(&T, &T) -> bool> Sorter<'_, T, L> {
    fn less(&self, one: usize, other: usize) -> bool {
        (self.less)(&self.data[one], &self.data[other])
    }

    /// The shorter part is sorted by recursion, so its depth is below the logarithm of the length.
    fn sort(&mut self, mut from: usize, mut to: usize, mut limit: u32) {
        let (mut was_balanced, mut was_partitioned) = (true, true);
        loop {
            let length = to - from;
            if length <= INSERTION_MAX {
                self.insertion_sort(from, to);
                return;
            }
            if limit == 0 {
                self.heap_sort(from, to);
                return;
            }
            if !was_balanced {
                self.break_patterns(from, to);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(from, to);
            if hint == Hint::Decreasing {
                self.data[from..to].reverse();
                pivot = (to - 1) - (pivot - from);
                hint = Hint::Increasing;
            }
            let looks_sorted = was_balanced && was_partitioned && hint == Hint::Increasing;
            if looks_sorted && self.partial_insertion_sort(from, to) {
                return;
            }
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.partition_equal(from, to, pivot);
                continue;
            }
            let (middle, already) = self.partition(from, to, pivot);
            was_partitioned = already;
            let (left, right) = (middle - from, to - middle);
            was_balanced = left.min(right) >= length / 8;
            if left < right {
                self.sort(from, middle, limit);
                from = middle + 1;
            } else {
                self.sort(middle + 1, to, limit);
                to = middle;
            }
        }
    }

    fn insertion_sort(&mut self, from: usize, to: usize) {
        for end in from + 1..to {
            let mut at = end;
            while at > from && self.less(at, at - 1) {
                self.data.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn heap_sort(&mut self, from: usize, to: usize) {
        let length = to - from;
        for root in (0..=(length - 1) / 2).rev() {
            self.sift_down(root, length, from);
        }
        for end in (0..length).rev() {
            self.data.swap(from, from + end);
            self.sift_down(0, end, from);
        }
    }

    fn sift_down(&mut self, mut root: usize, end: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.data.swap(first + root, first + child);
            root = child;
        }
    }

    /// Where the pivot ends up: smaller elements are before it. Whether nothing had to move.
    fn partition(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.data.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        self.narrow(from, &mut low, &mut high);
        if low > high {
            self.data.swap(high, from);
            return (high, true);
        }
        self.data.swap(low, high);
        (low, high) = (low + 1, high - 1);
        loop {
            self.narrow(from, &mut low, &mut high);
            if low > high {
                break;
            }
            self.data.swap(low, high);
            (low, high) = (low + 1, high - 1);
        }
        self.data.swap(high, from);
        (high, false)
    }

    fn narrow(&self, pivot: usize, low: &mut usize, high: &mut usize) {
        while low <= high && self.less(*low, pivot) {
            *low += 1;
        }
        while low <= high && !self.less(*high, pivot) {
            *high -= 1;
        }
    }

    /// Elements equal to the pivot first, then greater ones: where these begin.
    fn partition_equal(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.data.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        loop {
            while low <= high && !self.less(from, low) {
                low += 1;
            }
            while low <= high && self.less(from, high) {
                high -= 1;
            }
            if low > high {
                return low;
            }
            self.data.swap(low, high);
            (low, high) = (low + 1, high - 1);
        }
    }

    /// Whether everything is sorted after at most `STEPS_MAX` pairs were shifted.
    fn partial_insertion_sort(&mut self, from: usize, to: usize) -> bool {
        let mut at = from + 1;
        for _ in 0..STEPS_MAX {
            while at < to && !self.less(at, at - 1) {
                at += 1;
            }
            if at == to {
                return true;
            }
            if to - from < SHORT {
                return false;
            }
            self.data.swap(at, at - 1);
            if at - from >= 2 {
                let mut left = at - 1;
                while left >= 1 && self.less(left, left - 1) {
                    self.data.swap(left, left - 1);
                    left -= 1;
                }
            }
            if to - at >= 2 {
                let mut right = at + 1;
                while right < to && self.less(right, right - 1) {
                    self.data.swap(right, right - 1);
                    right += 1;
                }
            }
        }
        false
    }

    fn break_patterns(&mut self, from: usize, to: usize) {
        let length = to - from;
        if length < 8 {
            return;
        }
        let mut random = length as u64;
        let modulus = 1usize << bits(length);
        let middle = from + length / 4 * 2;
        for at in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = random as usize & (modulus - 1);
            if other >= length {
                other -= length;
            }
            self.data.swap(at, from + other);
        }
    }

    fn choose_pivot(&self, from: usize, to: usize) -> (usize, Hint) {
        let length = to - from;
        let mut swaps = 0;
        let [mut low, mut middle, mut high] = [1, 2, 3].map(|quarter| from + length / 4 * quarter);
        if length >= 8 {
            if length >= SHORT {
                low = self.median(low - 1, low, low + 1, &mut swaps);
                middle = self.median(middle - 1, middle, middle + 1, &mut swaps);
                high = self.median(high - 1, high, high + 1, &mut swaps);
            }
            middle = self.median(low, middle, high, &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Increasing,
            SWAPS_MAX => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (middle, hint)
    }

    fn median(&self, a: usize, b: usize, c: usize, swaps: &mut usize) -> usize {
        let (a, b) = self.ordered(a, b, swaps);
        let (b, _) = self.ordered(b, c, swaps);
        self.ordered(a, b, swaps).1
    }

    fn ordered(&self, one: usize, other: usize, swaps: &mut usize) -> (usize, usize) {
        if self.less(other, one) {
            *swaps += 1;
            return (other, one);
        }
        (one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys, elements, and what Go 1.26 makes of them: hashes (FNV-1a) of the order of the elements, sorted after each append, and
    /// sorted once.
    const GO: &[(u64, u16, u64, u64)] = &[
        (1, 12, 0xfdfdccbdb0931495, 0xfdfdccbdb0931495),
        (1, 13, 0x2bad5519dc03f781, 0x2bad5519dc03f781),
        (1, 24, 0x73216296f7a1af05, 0x73216296f7a1af05),
        (1, 40, 0x11808c701d5f49a5, 0x11808c701d5f49a5),
        (1, 49, 0xd10fb2a22ea9cfbd, 0xd10fb2a22ea9cfbd),
        (1, 50, 0xe38390adab53616c, 0xe38390adab53616c),
        (1, 60, 0xc764ead3f7925af5, 0xc764ead3f7925af5),
        (1, 200, 0x28d05f40239c0b25, 0x28d05f40239c0b25),
        (1, 1000, 0x0ee92cb9c8829415, 0x0ee92cb9c8829415),
        (3, 12, 0x1c77b40f2071f7cd, 0x40da283fa5450e85),
        (3, 13, 0x427e1ad4b0421139, 0xee025d94e0dc3239),
        (3, 24, 0x8f8ef781f868894d, 0x42b184d9197016d5),
        (3, 40, 0x04986f87db451d95, 0x169b058f53296535),
        (3, 49, 0x5b4a9003529171a5, 0xd8cffa2c4c51556d),
        (3, 50, 0xb25286d02c22e2ac, 0x9a1bf4ec2e11570c),
        (3, 60, 0x4a8d372b5831ffd5, 0xbaf03cb23816a20d),
        (3, 200, 0xf5fe76951d4a764d, 0xf2943d11fc904285),
        (3, 1000, 0x4063828e4ee90379, 0xe575f5777c70cfc5),
        (7, 12, 0x735e2f75f40f39fd, 0xa150bb24032c2f65),
        (7, 13, 0xae5ba8cbd4531319, 0x11e7c2bf336a6151),
        (7, 24, 0x11598896086345ad, 0x48f0144f8bb69a3d),
        (7, 40, 0x05f1512ce299974d, 0x32a0f7b0d3c2e5fd),
        (7, 49, 0x04ed72d84b8e81fd, 0x386e21bc5a2e08fd),
        (7, 50, 0x1a4a7535c0ed872c, 0x4e7ade9be50000a4),
        (7, 60, 0x3eadd77c0654abf5, 0x8bce43dfdcf57b85),
        (7, 200, 0x17ccceeb6354a8f5, 0xb09a63d9046c61c5),
        (7, 1000, 0x57c64728c94eb83d, 0xa47c159cfd76ebe9),
        (20, 12, 0x67fab9cddbcaa08d, 0xdf3c772a140a014d),
        (20, 13, 0x19a99f81f4b28041, 0xe5bef11a20a6e371),
        (20, 24, 0x99e6c6f84b25f2f5, 0x9508b9c099b3a3d5),
        (20, 40, 0x171e18af0cc703ad, 0x057b87d7cba273ed),
        (20, 49, 0x817504d603a9f66d, 0xfff09946b30deeb5),
        (20, 50, 0x5c004449d14aa61c, 0x62f88f019911f9ec),
        (20, 60, 0x54910ac4db28346d, 0x49777ab9566c680d),
        (20, 200, 0xc54e724e6256f2fd, 0x0dc1651653d0bb55),
        (20, 1000, 0xf09756d3e7c2c43d, 0xb8070a74e63526a1),
        (1000, 12, 0x0426f1eb2e6d05f5, 0xae8585678363137d),
        (1000, 13, 0xe76c0ce293ebae21, 0xd07be2e21fcfcda9),
        (1000, 24, 0x74cad5eeeea4c70d, 0xb18a71f47e26e745),
        (1000, 40, 0xb4cd53d985fd57f5, 0x6b1d8c6bb5c75c05),
        (1000, 49, 0x080af7c20fe85cad, 0x2b2fe346293b64ed),
        (1000, 50, 0x0073737bcd2c1124, 0x6508aaac33fe38ac),
        (1000, 60, 0xc400ae6d555fbd05, 0xafbb4a62bd8735a5),
        (1000, 200, 0x68a097bea4d980d5, 0x0e24f70891965a4d),
        (1000, 1000, 0x6884d76fe90bfd09, 0xebddcb67452c51c1),
    ];

    fn hash(sorted: &[(u64, u16)]) -> u64 {
        let bytes = sorted.iter().flat_map(|(_, id)| id.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn equal_elements_are_left_in_the_order_of_go() {
        let less = |one: &(u64, u16), other: &(u64, u16)| one.0 < other.0;
        for (keys, length, grown_hash, whole_hash) in GO {
            let mut random = u64::from(*length) * 31 + keys;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % keys
            };
            let mut grown = Vec::new();
            for id in 0..*length {
                grown.push((next(), id));
                sort(&mut grown, less);
            }
            assert_eq!(hash(&grown), *grown_hash, "{length} of {keys}, one after the other");
            let mut whole: Vec<(u64, u16)> = (0..*length).map(|id| (next(), id)).collect();
            sort(&mut whole, less);
            assert!(whole.is_sorted_by_key(|(key, _)| *key));
            assert_eq!(hash(&whole), *whole_hash, "{length} of {keys}");
        }
    }
}
