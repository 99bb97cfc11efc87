/**
 * What every command needs before it has read a scenario: exit codes, closed lists, names that are near. A face of its own:
 * `index.ts` has forty modules, and a command that looks at a VM that hangs must not wait for them.
 */
export * from "./axes.ts";
export * from "./glob.ts";
export * from "./nearest.ts";
export * from "./verdict.ts";
