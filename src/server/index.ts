export { redirectConsole } from "./console.ts";
export { createMcpServerFactory, type McpServerOptions, type McpServing } from "./factory.ts";
export { buildInstructions, type PolicyView } from "./instructions.ts";
export { type ServeOptions, type Serving, serve } from "./serve.ts";
