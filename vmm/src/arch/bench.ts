/** The architecture's benchmarks; apart from index.ts, which the vCPUs' threads load. */
export * from "./x86/bench/exits.ts";
