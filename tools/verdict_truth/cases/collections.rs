//! Uses of the standard library: collections, text, threads and a trait object.
use std::collections::HashMap;

trait Work {
    fn work(&self, numbers: &[u64]) -> u64;
}

struct Bits;

impl Work for Bits {
    fn work(&self, numbers: &[u64]) -> u64 {
        numbers.iter().map(|number| u64::from(number.count_ones())).sum()
    }
}

fn main() {
    let numbers: Vec<u64> = (0..4096).map(|number| std::hint::black_box(number) * 0x9E37_79B9).collect();
    let shared = numbers.clone();
    let sum = std::thread::spawn(move || shared.iter().fold(0u64, |sum, number| sum ^ number)).join().unwrap();
    let by_rest: HashMap<u64, usize> = numbers.iter().enumerate().map(|(index, number)| (number % 97, index)).collect();
    let text = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let worker: Box<dyn Work> = Box::new(Bits);
    println!("{sum} {} {} {}", by_rest[&5], text.find("77").unwrap_or(0), worker.work(&numbers));
}
