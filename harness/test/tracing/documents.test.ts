/** The tracepoints that documents name are the kernel's, and a command beside them shows them. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { matchesGlob } from "../../../language/src/index.ts";
import { packagePath } from "../../src/paths.ts";

/** As the kernel defines them, each with its TRACE_SYSTEM. */
const tracepoints: readonly string[] = [
  // include/trace/events/kvm.h
  "kvm:kvm_userspace_exit",
  "kvm:kvm_try_async_get_page",
  "kvm:kvm_async_pf_repeated_fault",
  "kvm:kvm_async_pf_not_present",
  "kvm:kvm_async_pf_ready",
  "kvm:kvm_async_pf_completed",
  // arch/x86/kvm/trace.h
  "kvm:kvm_exit",
  "kvm:kvm_page_fault",
  // arch/x86/kvm/mmu/mmutrace.h
  "kvmmmu:kvm_tdp_mmu_spte_changed",
];

/** Functions, modules and structures of KVM's that documents name, too. */
const others: readonly string[] = [
  "kvm_amd",
  "kvm_get_cr8",
  "kvm_handle_error_pfn",
  "kvm_intel",
  "kvm_pvm",
  "kvm_run",
  "kvm_sregs",
  "kvm_vcpu_arch",
  "kvm_vcpu_events",
];

const documents = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync(packagePath("docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
].map((name) => ({ name, lines: readFileSync(packagePath(name), "utf8").split("\n") }));

const namesIn = (line: string): readonly string[] =>
  line.match(/\bkvm_[a-z][a-z0-9_]*(?![a-z0-9_*(]|\.c\b)/g) ?? [];
const systemless = (name: string): string => name.replace(/^.*:/, "");

describe("the documents", () => {
  it("name tracepoints as the kernel does", () => {
    const known = [...tracepoints.map(systemless), ...others];
    const wrong = documents.flatMap(({ name, lines }) =>
      lines.flatMap((line, index) =>
        namesIn(line)
          .filter((word) => !known.includes(word))
          .map((word) => `${name}:${index + 1}: ${word}`),
      ),
    );
    expect(wrong).toEqual([]);
  });

  it("show, where they say how to trace, every tracepoint that they speak of there", () => {
    const recipes = documents.flatMap(({ lines }) =>
      lines.flatMap((line) => {
        const [, events = null] = /perf trace -e '([^']+)'/.exec(line) ?? [];
        return events === null ? [] : [{ line, patterns: events.split(",") }];
      }),
    );
    expect(recipes.length).toBeGreaterThan(0);
    for (const { line, patterns } of recipes) {
      const spoken = tracepoints.filter((one) => namesIn(line).includes(systemless(one)));
      expect(spoken.length).toBeGreaterThan(0);
      expect(spoken.filter((one) => !patterns.some((pattern) => matchesGlob(pattern, one)))).toEqual([]);
      expect(patterns.filter((pattern) => !tracepoints.some((one) => matchesGlob(pattern, one)))).toEqual([]);
    }
  });
});
