// The dashboard, alerts and recording rules as a monitoring mixin (https://monitoring.mixins.dev). They are the plain
// files of this repository, so install the whole of it with jsonnet-bundler, not this folder alone.
local files = [
  std.parseYaml(importstr '../rules/slos.yaml'),
  std.parseYaml(importstr '../rules/recording.yaml'),
  std.parseYaml(importstr '../rules/alerts.yaml'),
];
local groups(kind) = [
  group
  for file in files
  for group in file.groups
  if std.objectHas(group.rules[0], kind)
];

{
  _config+:: {
    // The URL of your copy of the runbooks, without an anchor; null keeps the links of the rules.
    runbooks: null,
  },

  local linked(rule) = rule {
    annotations+: {
      [if $._config.runbooks != null then 'runbook_url']:
        $._config.runbooks + '#' + std.asciiLower(rule.alert),
    },
  },

  grafanaDashboards+:: {
    'seed-mcp-server-dashboard.json': import '../../grafana/seed-mcp-server-dashboard.json',
  },
  prometheusAlerts+:: {
    groups+: [group { rules: std.map(linked, group.rules) } for group in groups('alert')],
  },
  prometheusRules+:: {
    groups+: groups('record'),
  },
}
