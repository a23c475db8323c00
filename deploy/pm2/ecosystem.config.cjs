// The service under pm2, from a source tree that `make setup` has set up; settings come from .env in that tree.
//   npm ci --prefix deploy/pm2
//   deploy/pm2/node_modules/.bin/pm2 start deploy/pm2/ecosystem.config.cjs
const path = require("node:path");

// pm2's daemon may have been started elsewhere: no path may depend on where it runs.
const root = path.resolve(__dirname, "../..");
const drainSeconds = Number(process.env.BROADCASTER_DRAIN_SECONDS || 10);

module.exports = {
  apps: [
    {
      name: "broadcaster",
      cwd: root,
      script: path.join(root, ".venv/bin/broadcaster"),
      args: "run",
      // By its absolute path: pm2 takes a Python program without a suffix for JavaScript.
      interpreter: path.join(root, ".venv/bin/python"),
      exec_mode: "fork",
      instances: 1, // two would fight over one state folder
      // pm2 stops with SIGINT, upon which the service finishes its uploads; what it has not finished when pm2 loses
      // patience waits in the spool for the next start.
      kill_timeout: (drainSeconds + 10) * 1000,
      autorestart: true,
      // No limit to restarts: an event must not end because a passing fault came too often. (With a restart delay,
      // pm2 would show "waiting restart" for a service that it has given up.)
      min_uptime: 0,
      stop_exit_codes: [2], // a setting is missing or wrong, and only a person can help
      vizion: false, // the source tree's version control is none of pm2's business
      merge_logs: true,
      time: false, // the lines have times
    },
  ],
};
