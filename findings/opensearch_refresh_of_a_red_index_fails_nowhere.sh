#!/usr/bin/env bash
# A refresh of an index whose shards are nowhere is answered with 200 and "failed": 0. The request waits a minute for each shard, and then counts
# none of them as failed: only "successful" is less than "total", as it is for every healthy index whose replicas have no node.
# Who is hit: whoever refreshes to make sure that all that was written can be found (before a search, a count, a switch of aliases), and looks for
# failures in the answer. A count of the same index is refused with 503 at once.
# What helps: to ask for the index' health behind the refresh, and to take a red one for a failure.
# Versions: OpenSearch 2.19.6 (Maven); seen with 3.8.0 too. Exits 1 once this changes. Takes two minutes.
# Needs: bash, a JDK from 17 on, mvn.
set -euo pipefail
for program in java mvn; do command -v "$program" >/dev/null || { echo "needs $program"; exit 77; }; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.opensearch</groupId><artifactId>opensearch</artifactId><version>2.19.6</version></dependency>
    <dependency><groupId>org.opensearch.plugin</groupId><artifactId>transport-netty4-client</artifactId><version>2.19.6</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
POM

cat >Finding.java <<'JAVA'
import java.net.URI;
import java.net.http.*;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

public class Finding extends Node {
    Finding(Settings settings) {
        super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "finding"), List.of(Netty4Plugin.class), false);
    }

    static final HttpClient client = HttpClient.newHttpClient();
    static String base;
    static boolean asExpected = true;

    static HttpResponse<String> send(String method, String path, String body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(base + path)).header("content-type", "application/json")
            .method(method, HttpRequest.BodyPublishers.ofString(body)).build();
        return client.send(request, HttpResponse.BodyHandlers.ofString());
    }

    public static void main(String[] arguments) throws Exception {
        var settings = Settings.builder().put("path.home", arguments[0]).put("cluster.name", "finding").put("node.name", "finding")
            .put("discovery.type", "single-node").put("network.host", "127.0.0.1").put("http.port", "0").put("transport.port", "0")
            .put("transport.type", "netty4").put("http.type", "netty4").build();
        try (var node = new Finding(settings)) {
            node.start();
            var at = node.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress();
            base = "http://127.0.0.1:" + at.getPort();
            String nowhere = "{\"settings\":{\"number_of_shards\":2,\"number_of_replicas\":0,\"index.routing.allocation.require.zone\":\"none\"}}";
            send("PUT", "/red?wait_for_active_shards=0", nowhere);
            for (String what : List.of("GET /_cluster/health/red?filter_path=status,unassigned_shards", "POST /red/_refresh", "GET /red/_count")) {
                long begun = System.nanoTime();
                var answer = send(what.split(" ")[0], what.split(" ")[1], "");
                long seconds = (System.nanoTime() - begun) / 1_000_000_000;
                System.out.println(what + ": " + answer.statusCode() + " after " + seconds + " s: " + answer.body());
                if (what.contains("_refresh")) {
                    asExpected &= answer.statusCode() == 200 && seconds >= 30 && answer.body().contains("\"successful\":0,\"failed\":0");
                } else if (what.contains("_count")) {
                    asExpected &= answer.statusCode() == 503;
                }
            }
        }
        System.out.println(asExpected ? "as described" : "this has changed");
        System.exit(asExpected ? 0 : 1);
    }
}
JAVA

mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DoutputDirectory=jars
java -Xmx512m -cp 'jars/*' Finding.java "$work/home" 2>"$work/log" || { code=$?; tail -20 "$work/log"; exit "$code"; }
