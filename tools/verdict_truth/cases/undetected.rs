//! A function for AVX2 is called without a question to the CPU.
#[target_feature(enable = "avx2")]
unsafe fn sum(numbers: &[i32]) -> i32 {
    numbers.iter().map(|number| number.wrapping_mul(*number) >> 1).fold(0, i32::wrapping_add)
}

fn main() {
    let numbers: Vec<i32> = (0..4096).map(|number| std::hint::black_box(number) * 77).collect();
    println!("{}", unsafe { sum(&numbers) });
}
