/** The architecture that this VMM is built for. Everything outside arch/ imports from here, so that a port changes one line. */
export * from "./x86/index.ts";
