import { destination, type Logger as PinoLogger, pino } from "pino";

export type Logger = PinoLogger;

/**
 * Logs go to stderr only: stdout belongs to the protocol. Writing is asynchronous, so that no tool call waits for a reader of
 * the log. Environment values, commands' stdin and credentials never reach a log line; what might carry one is censored here.
 */
export function createLogger(level: string, fd = 2): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ["env", "*.env", "password", "*.password", "token", "*.token", "creds", "*.creds"],
        censor: "***",
      },
    },
    destination({ dest: fd, sync: false }),
  );
}
