#!/usr/bin/env bash
# require_alias=true does not keep a _bulk request from making an index: it passes over deletions. A deletion with an external version makes
# the index that it names where there is none (a plain deletion does not), with no mapping, under the alias' own name, and is answered without
# an error. It does so only where the request holds nothing but deletions: one document of the same index beside them, which require_alias
# refuses, keeps the index from being made, and then the same deletion gets 404 index_not_found_exception.
# Who is hit: whoever writes through an alias by external versions (connectors, CDC sinks), when the index behind the alias is deleted while a
# table has deletions only: afterwards the alias cannot be made, since an index has its name, and what follows goes to that index.
# What helps: action.auto_create_index=false on the cluster; else to look what the name leads to behind a deletion that found nothing.
# Versions: OpenSearch 2.19.6 (Maven); seen with 3.8.0 too. Exits 1 once this changes. Takes a minute.
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
        var request = HttpRequest.newBuilder(URI.create(base + path)).header("content-type", "application/x-ndjson")
            .method(method, HttpRequest.BodyPublishers.ofString(body)).build();
        return client.send(request, HttpResponse.BodyHandlers.ofString());
    }

    static void bulk(String what, String name, String body, boolean isMade) throws Exception {
        var answer = send("POST", "/_bulk?require_alias=true", body.replace("NAME", name)).body();
        boolean made = send("GET", "/" + name, "").statusCode() == 200;
        boolean refused = answer.contains("\"errors\":true");
        System.out.println(what + ": " + (refused ? "refused" : "no error") + ", the index is " + (made ? "made" : "not made"));
        asExpected &= made == isMade && refused != isMade;
    }

    public static void main(String[] arguments) throws Exception {
        var settings = Settings.builder().put("path.home", arguments[0]).put("cluster.name", "finding").put("node.name", "finding")
            .put("discovery.type", "single-node").put("network.host", "127.0.0.1").put("http.port", "0").put("transport.port", "0")
            .put("transport.type", "netty4").put("http.type", "netty4").build();
        try (var node = new Finding(settings)) {
            node.start();
            var at = node.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress();
            base = "http://127.0.0.1:" + at.getPort();
            String plain = "{\"delete\":{\"_index\":\"NAME\",\"_id\":\"1\"}}\n";
            String versioned = "{\"delete\":{\"_index\":\"NAME\",\"_id\":\"1\",\"version\":5,\"version_type\":\"external\"}}\n";
            String document = "{\"index\":{\"_index\":\"NAME\",\"_id\":\"2\",\"version\":5,\"version_type\":\"external\"}}\n{\"a\":1}\n";
            bulk("a document", "first", document, false);
            bulk("a deletion without a version", "second", plain, false);
            bulk("a deletion with an external version", "third", versioned, true);
            bulk("such a deletion and a document", "fourth", versioned + document, false);
            int alias = send("PUT", "/other", "").statusCode() == 200 ? send("PUT", "/other/_alias/third", "").statusCode() : 0;
            System.out.println("an alias of the made index' name: " + alias);
            asExpected &= alias == 400;
        }
        System.out.println(asExpected ? "as described" : "this has changed");
        System.exit(asExpected ? 0 : 1);
    }
}
JAVA

mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DoutputDirectory=jars
java -Xmx512m -cp 'jars/*' Finding.java "$work/home" 2>"$work/log" || { code=$?; tail -20 "$work/log"; exit "$code"; }
