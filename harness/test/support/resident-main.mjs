/**
 * Carries out command lines of daxfault one after the other, as `cli.ts` asks by IPC, so that Node and the program's modules
 * are loaded once. What a command writes goes to this process's own standard output and error, which are files.
 * The process has no listener of its own for streams and signals (`listenToProcess` of command-line.ts): what a process is
 * needed for is tested with one.
 */
const { commandLine } = await import(process.argv[2]);
const home = process.cwd();

process.on("message", async ({ args, cwd }) => {
  process.exitCode = undefined;
  process.chdir(cwd ?? home);
  await commandLine([process.execPath, process.argv[2], ...args]);
  const code = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  process.chdir(home);
  process.send({ code });
});
process.on("disconnect", () => process.exit(0));
