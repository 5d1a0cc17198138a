export * from "./dwebsocket-task.js";
