/** The command line of a Linux guest, of whichever VMM. */

/**
 * Quiet, since each character is an exit; what the machine lacks is not probed for. A panic resets the machine, which
 * ends it; an oops ends the process that it hits, as Linux has it by default.
 */
export const LINUX_COMMAND_LINE: string = [
  "console=ttyS0",
  "quiet",
  "panic=-1",
  "mitigations=off",
  "tsc=reliable",
  "no_timer_check",
  "nokaslr",
  "reboot=k",
  "random.trust_cpu=on",
  "8250.nr_uarts=1",
].join(" ");
