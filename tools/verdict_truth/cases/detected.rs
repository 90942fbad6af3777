//! A function for AVX2, one for SSE4.1, and one for every CPU: std_detect asks which one runs.
use std::arch::is_x86_feature_detected;

fn sum(numbers: &[i32]) -> i32 {
    numbers.iter().map(|number| number.wrapping_mul(*number) >> 1).fold(0, i32::wrapping_add)
}

#[target_feature(enable = "avx2")]
unsafe fn sum_avx2(numbers: &[i32]) -> i32 {
    sum(numbers)
}

#[target_feature(enable = "sse4.1")]
unsafe fn sum_sse41(numbers: &[i32]) -> i32 {
    sum(numbers)
}

fn main() {
    let numbers: Vec<i32> = (0..4096).map(|number| std::hint::black_box(number) * 77).collect();
    let total = if is_x86_feature_detected!("avx2") {
        unsafe { sum_avx2(&numbers) }
    } else if is_x86_feature_detected!("sse4.1") {
        unsafe { sum_sse41(&numbers) }
    } else {
        sum(&numbers)
    };
    println!("{total}");
}
