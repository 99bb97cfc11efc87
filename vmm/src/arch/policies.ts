/** The policies of the architecture that this VMM is built for. Apart from index.ts, below which the port of policies lies. */
export * from "./x86/policy/index.ts";
