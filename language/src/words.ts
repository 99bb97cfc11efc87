/**
 * The closed lists that a process needs which interprets no scenario: the file server. Two files, because each imported file
 * costs such a process a descriptor and time at its start (Node opens them side by side).
 */
export * from "./axes.ts";
export * from "./scenario/fault-rules.ts";
