/** Public face of the language. Other parts import from here and from `read.ts`, and from nowhere deeper. */

export * from "./axes.ts";
export * from "./evidence.ts";
export * from "./glob.ts";
export * from "./judge/expectations.ts";
export * from "./judge/judge.ts";
export * from "./judge/properties.ts";
export * from "./judge/scorecard.ts";
export * from "./nearest.ts";
export * from "./presets.ts";
export * from "./proposal.ts";
export * from "./scenario/check.ts";
export * from "./scenario/content.ts";
export * from "./scenario/expand.ts";
export * from "./scenario/faults.ts";
export * from "./scenario/format.ts";
export * from "./scenario/hash.ts";
export * from "./scenario/labels.ts";
export * from "./scenario/limits.ts";
export * from "./scenario/number.ts";
export * from "./scenario/problem.ts";
export * from "./scenario/scenario.ts";
export * from "./scenario/sizes.ts";
export * from "./scenario/steps.ts";
export * from "./scenario/window.ts";
export * from "./verdict.ts";
export * from "./vocabulary.ts";
