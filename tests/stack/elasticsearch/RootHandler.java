import java.io.IOException;
import java.util.List;
import org.apache.lucene.util.Version;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;

/** Answers GET / and HEAD / as a stock node does; the rest-root module is not published as a jar. */
class RootHandler extends BaseRestHandler {
  private final Settings settings;

  RootHandler(Settings settings) {
    this.settings = settings;
  }

  @Override
  public String getName() {
    return "main_action";
  }

  @Override
  public List<Route> routes() {
    return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
  }

  @Override
  protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
    return channel -> {
      XContentBuilder body = channel.newBuilder();
      describe(body.prettyPrint());
      channel.sendResponse(new RestResponse(RestStatus.OK, body));
    };
  }

  private void describe(XContentBuilder body) throws IOException {
    Build build = Build.current();
    body.startObject();
    body.field("name", settings.get("node.name"));
    body.field("cluster_name", settings.get("cluster.name"));
    body.startObject("version");
    body.field("number", build.qualifiedVersion());
    body.field("build_flavor", "default");
    body.field("build_type", build.type().displayName());
    body.field("build_hash", build.hash());
    body.field("build_date", build.date());
    body.field("build_snapshot", build.isSnapshot());
    body.field("lucene_version", Version.LATEST.toString());
    body.field("minimum_wire_compatibility_version", build.minWireCompatVersion());
    body.field("minimum_index_compatibility_version", build.minIndexCompatVersion());
    body.endObject();
    body.field("tagline", "You Know, for Search");
    body.endObject();
  }
}
