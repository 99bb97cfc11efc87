/** The ways to mount the file server: the closed list, for options, attestations and tests. */
export const transports = ["devfuse", "libfuse"] as const;
export type Transport = (typeof transports)[number];
