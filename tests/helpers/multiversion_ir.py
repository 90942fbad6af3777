"""A module of IR with everything that cloning and dispatching functions has to get right, and a C program that uses it.

Pointers are written with their types, which every LLVM from 14 on reads. What is right is what the module does when it
is compiled once, for one target.
"""

from __future__ import annotations

MODULE = r"""
%pair = type { i64, i64, i64 }
%entry = type { i32, void ()*, i8* }

@calls = internal global i32 0
@shared = global i32 5
@scale = internal constant double 2.0
@each.thread = thread_local global i32 40
@table = global [3 x i32 (i32)*] [i32 (i32)* @triple, i32 (i32)* @exported, i32 (i32)* @hidden]
@jumps = internal constant [2 x i8*] [i8* blockaddress(@jump, %ten), i8* blockaddress(@jump, %twenty)]
@llvm.used = appending global [1 x i8*] [i8* bitcast (i32 (i32)* @kept to i8*)], section "llvm.metadata"
@llvm.global_ctors = appending global [1 x %entry] [%entry { i32 65535, void ()* @construct, i8* null }]
$inline = comdat any
$"a name, with: quotes \22; f(\22" = comdat any

@alias = alias i32 (i32), i32 (i32)* @exported
@alias.of.hidden = hidden alias i32 (i32), i32 (i32)* @hidden

declare i32 @abs(i32)
declare void @llvm.va_start(i8*)
declare void @llvm.va_end(i8*)

; Called directly, and there once for each variant.
define internal i32 @helper(i32 %x) noinline {
  %calls = load i32, i32* @calls
  %more = add i32 %calls, 1
  store i32 %more, i32* @calls
  %r = add i32 %x, 1
  ret i32 %r
}

; Called directly, and its address is in data.
define internal i32 @triple(i32 %x) noinline {
  %h = call i32 @helper(i32 %x)
  %r = mul i32 %h, 3
  ret i32 %r
}

define i32 @exported(i32 %x) {
  %t = call i32 @triple(i32 %x)
  %is = icmp slt i32 %x, 0
  br i1 %is, label %stop, label %go
go:
  %a = call i32 @abs(i32 %t)
  %i = call i32 @inline(i32 %a)
  %l = call i32 @alias(i32 -1000)
  %r = add i32 %i, %l
  ret i32 %r
stop:
  ret i32 %t
}

define hidden i32 @hidden(i32 %x) {
  %r = sub i32 %x, 7
  ret i32 %r
}

define i32 @call.hidden(i32 %x) {
  %r = call i32 @hidden(i32 %x)
  %s = call i32 @alias.of.hidden(i32 %r)
  ret i32 %s
}

define weak i32 @replaceable(i32 %x) {
  ret i32 %x
}

define i32 @call.replaceable(i32 %x) {
  %r = call i32 @replaceable(i32 %x)
  ret i32 %r
}

define linkonce_odr i32 @inline(i32 %x) comdat {
  %r = add i32 %x, 10
  ret i32 %r
}

define linkonce_odr i32 @"a name, with: quotes \22; f(\22"(i32 %x) comdat {
  %r = call i32 @helper(i32 %x)
  ret i32 %r
}

define i32 @call.quoted(i32 %x) {
  %r = call i32 @"a name, with: quotes \22; f(\22"(i32 %x)
  ret i32 %r
}

; Each other, in turn.
define i32 @is.even(i32 %n) noinline {
  %is = icmp eq i32 %n, 0
  br i1 %is, label %yes, label %ask
yes:
  ret i32 1
ask:
  %m = sub i32 %n, 1
  %r = call i32 @is.odd(i32 %m)
  ret i32 %r
}
define internal i32 @is.odd(i32 %n) noinline {
  %is = icmp eq i32 %n, 0
  br i1 %is, label %no, label %ask
no:
  ret i32 0
ask:
  %m = sub i32 %n, 1
  %r = call i32 @is.even(i32 %m)
  ret i32 %r
}

define i32 @sum(i32 %count, ...) {
start:
  %list = alloca [64 x i8], align 16
  %bytes = bitcast [64 x i8]* %list to i8*
  call void @llvm.va_start(i8* %bytes)
  br label %next
next:
  %left = phi i32 [ %count, %start ], [ %less, %add ]
  %total = phi i32 [ 0, %start ], [ %more, %add ]
  %over = icmp eq i32 %left, 0
  br i1 %over, label %end, label %add
add:
  %one = va_arg i8* %bytes, i32
  %more = add i32 %total, %one
  %less = sub i32 %left, 1
  br label %next
end:
  call void @llvm.va_end(i8* %bytes)
  ret i32 %total
}

define void @swap(%pair* noalias sret(%pair) %to, %pair* byval(%pair) align 8 %from) {
  %a = getelementptr %pair, %pair* %from, i32 0, i32 0
  %c = getelementptr %pair, %pair* %from, i32 0, i32 2
  %first = load i64, i64* %a
  %last = load i64, i64* %c
  %x = getelementptr %pair, %pair* %to, i32 0, i32 0
  %y = getelementptr %pair, %pair* %to, i32 0, i32 1
  %z = getelementptr %pair, %pair* %to, i32 0, i32 2
  store i64 %last, i64* %x
  store i64 0, i64* %y
  store i64 %first, i64* %z
  ret void
}

; More than registers hold.
define double @many(i64 %i0, i64 %i1, i64 %i2, i64 %i3, i64 %i4,
                    i64 %i5, i64 %i6, i64 %i7, i64 %i8,
                    double %d0, double %d1, double %d2, double %d3, double %d4,
                    double %d5, double %d6, double %d7, double %d8, double %d9) {
  %i = mul i64 %i7, 3
  %j = sub i64 %i, %i8
  %k = mul i64 %j, %i0
  %l = sitofp i64 %k to double
  %d = fsub double %d9, %d8
  %e = fmul double %d, %d0
  %r = fadd double %e, %l
  ret double %r
}

define i32 @jump(i64 %index) {
  %place = getelementptr [2 x i8*], [2 x i8*]* @jumps, i64 0, i64 %index
  %to = load i8*, i8** %place
  indirectbr i8* %to, [label %ten, label %twenty]
ten:
  ret i32 10
twenty:
  ret i32 20
}

; Fused, and so rounded once, where the target has FMA.
define double @fused(double %a, double %b, double %c) {
  %scale = load double, double* @scale
  %d = fmul double %c, %scale
  %product = fmul contract double %a, %b
  %r = fadd contract double %product, %d
  ret double %r
}

define i32 @thread() {
  %old = load i32, i32* @each.thread
  %new = add i32 %old, 1
  store i32 %new, i32* @each.thread
  ret i32 %new
}

define internal i32 @kept(i32 %x) {
  %r = add i32 %x, 2
  ret i32 %r
}

define internal void @construct() {
  %old = load i32, i32* @shared
  %new = call i32 @triple(i32 %old)
  store i32 %new, i32* @shared
  ret void
}

define i32 @count() {
  %r = load i32, i32* @calls
  ret i32 %r
}
define i32 (i32)* @address.of.triple() {
  ret i32 (i32)* @triple
}
define i32 (i32)* @address.of.hidden() {
  ret i32 (i32)* @hidden
}
define i32 (i32)* @address.of.exported() {
  ret i32 (i32)* @exported
}
"""

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
typedef int (*function)(int);
struct pair { long a, b, c; };
extern int shared;
extern _Thread_local int each_thread __asm__("each.thread");
extern function table[3];
int exported(int), alias(int), replaceable(int), is_even(int) __asm__("is.even"), sum(int, ...);
int jump(long), thread(void);
int call_hidden(int) __asm__("call.hidden"), call_replaceable(int) __asm__("call.replaceable"), count(void);
int call_quoted(int) __asm__("call.quoted");
struct pair swap(struct pair);
double fused(double, double, double);
double many(long, long, long, long, long, long, long, long, long,
            double, double, double, double, double, double, double, double, double, double);
function address_of_triple(void) __asm__("address.of.triple"), address_of_hidden(void) __asm__("address.of.hidden");
function address_of_exported(void) __asm__("address.of.exported");

int main(int argc, char **argv) {
    struct pair swapped = swap((struct pair){1, 2, 3});
    function volatile by_name = exported, by_alias = alias;
    int first = thread(), second = thread();
    printf("shared %d\n", shared);
    printf("calls %d\n", exported(4));
    printf("by address %d %d\n", table[0](5), table[2](6));
    printf("inner %d %d %d %d\n", call_hidden(9), call_replaceable(8), replaceable(8), call_quoted(1));
    printf("kinds %d %ld %ld %ld %d %d\n", sum(3, 1, 2, 3), swapped.a, swapped.b, swapped.c, jump(0), jump(1));
    printf("many %g\n", many(9, 2, 3, 4, 5, 6, 7, 80, 9, 0.5, 2, 3, 4, 5, 6, 7, 8, 90, 10));
    printf("mutual %d %d\n", is_even(10), is_even(7));
    printf("thread %d %d %d\n", first, second, each_thread);
    printf("one address %d %d %d %d\n", table[0] == address_of_triple(), table[1] == address_of_exported(),
           table[1] == by_name && by_alias == by_name, table[2] == address_of_hidden());
    printf("count %d\n", count());
    if (argc > 1)
        printf("fused %d picked %d\n", fused(1 + 0x1p-30, 1 - 0x1p-30, -0.5) != 0,
               *(int *)((char *)&shared + atol(argv[1])));
    return 0;
}
"""
