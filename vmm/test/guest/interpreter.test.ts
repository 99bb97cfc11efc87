/**
 * The step interpreter in a Linux process: the same file as in the micro-guest, with another home. What fails here is
 * something in it that only the micro-guest could run.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compileAndRun, compilerOrReason } from "../support/compile.ts";

const step = new URL("../../guest/step/", import.meta.url).pathname;

const runtime = `
#pragma once
extern volatile struct channel *channel;
uint64_t read_tsc(void);
`;

/** One task; accesses by memcpy; CALL_DONE ends it; a system call copies all but one byte. */
const home = `
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include "services.h"

static struct channel memory;
volatile struct channel *channel = &memory;
static uint64_t now;
uint64_t read_tsc(void) { return ++now; }

#define READ(name) void name(void *window, void *bytes, uint64_t size) { memcpy(bytes, window, size); }
#define WRITE(name) void name(void *window, void *bytes, uint64_t size) { memcpy(window, bytes, size); }
READ(load_1) READ(load_2) READ(load_4) READ(load_8) READ(load_16) READ(load_32) READ(load_64) READ(copy_from) READ(fetch)
WRITE(store_1) WRITE(store_2) WRITE(store_4) WRITE(store_8) WRITE(store_16) WRITE(store_32) WRITE(store_64)
WRITE(copy_to) WRITE(push)
#define ATOMIC(name, type) void name(void *window, void *bytes, uint64_t size) \\
    { (void)size; type old = __atomic_fetch_add((type *)window, 1, __ATOMIC_SEQ_CST); memcpy(bytes, &old, sizeof old); }
ATOMIC(atomic_1, uint8_t) ATOMIC(atomic_2, uint16_t) ATOMIC(atomic_4, uint32_t) ATOMIC(atomic_8, uint64_t)
READ(atomic_16)

static jmp_buf ended;
static unsigned yields;
uint64_t kernel_call(uint64_t number, uint64_t argument, void *bytes)
{
    (void)bytes;
    if (number == CALL_COPY)
        return ((const struct step *)argument)->size - 1;
    if (number == CALL_YIELD && ++yields == 3)
        memory.signals[2] = 1;
    if (number == CALL_SIGNAL)
        printf("signal %llu\\n", (unsigned long long)argument);
    if (number == CALL_KILL)
        printf("kill %llu\\n", (unsigned long long)argument);
    if (number == CALL_BAD_STEP)
        printf("bad step\\n");
    if (number == CALL_DONE)
        longjmp(ended, 1);
    return 0;
}

int main(void)
{
    static uint64_t window[16] = { 41, 7 };
    struct task_program *program = &memory.programs[0];
    const struct step steps[] = {
        { VERB_LOAD, 0, 8, 0, (uint64_t)&window[1], 0 },
        { VERB_STORE, 0, 4, 0, (uint64_t)&window[2], 0x11223344 },
        { VERB_ATOMIC, 0, 8, 0, (uint64_t)&window[0], 0 },
        { VERB_SIGNAL, 0, 0, 0, 1, 0 },
        { VERB_AWAIT, 0, 0, 0, 2, 0 },
        { VERB_LOAD, STEP_REPEATS | STEP_TALLIES, 8, 2, (uint64_t)&window[1], 9 },
        { VERB_KERNEL_READ, 0, 8, 0, (uint64_t)&window[0], 0 },
        { VERB_LOAD, 0, 3, 0, (uint64_t)&window[0], 0 },
        { VERB_KILL, 0, 0, 0, 5, 0 },
    };
    memcpy(program->steps, steps, sizeof steps);
    program->step_count = sizeof steps / sizeof *steps;
    if (!setjmp(ended))
        task_main(0, 0);
    struct result *results = memory.reports[0].results;
    for (unsigned i = 0; i < program->step_count; i++)
        printf("%u: status %u value %llu\\n", i, results[i].status, (unsigned long long)*(uint64_t *)results[i].bytes);
    struct tally *tally = (struct tally *)results[5].bytes;
    printf("tally %llu stale %llu\\n", (unsigned long long)tally->accesses, (unsigned long long)tally->stale);
    printf("window %llu %llu %llx\\n", (unsigned long long)window[0], (unsigned long long)window[1],
           (unsigned long long)window[2]);
    printf("yields %u step %u\\n", yields, memory.reports[0].current_step);
}
`;

const compiler = compilerOrReason();

describe("interpreter.c in a Linux process", () => {
  it.skipIf(compiler.reason !== null)(`runs a task's steps with services.h alone${compiler.note}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "daxfault-home-"));
    try {
      writeFileSync(join(folder, "runtime.h"), runtime);
      const flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", `-I${step}`, `-I${folder}`];
      const output = compileAndRun(`${home}\n#include "interpreter.c"\n`, flags);
      expect(output.trim().split("\n")).toEqual([
        "signal 1",
        "bad step",
        "kill 5",
        "0: status 2 value 7",
        "1: status 2 value 287454020",
        "2: status 2 value 41",
        "3: status 0 value 0",
        "4: status 0 value 0",
        "5: status 2 value 7",
        "6: status 3 value 0",
        "7: status 0 value 0",
        "8: status 0 value 0",
        "tally 1 stale 1",
        "window 42 7 11223344",
        "yields 3 step 8",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
