"""The messages of gnostic's OpenAPIv2.proto and OpenAPIv3.proto: names of fields, their numbers and kinds.

Read by gnostic. A line a message: `field=number:kind`, where a field is called as in the JSON document, `*kind`
repeats, `{kind` is a pair of a name and such a value, the field `*` takes the names that no other field has, and `x-`
the extensions. Public interface definitions (github.com/google/gnostic-models); messages nobody refers to are left out.
"""

V2 = """
AdditionalPropertiesItem: schema=1:Schema boolean=2:bool
ApiKeySecurity: type=1:string name=2:string in=3:string description=4:string x-=5:{Any
BasicAuthenticationSecurity: type=1:string description=2:string x-=3:{Any
BodyParameter: description=1:string name=2:string in=3:string required=4:bool schema=5:Schema x-=6:{Any
Contact: name=1:string url=2:string email=3:string x-=4:{Any
Definitions: *=1:{Schema
Document: swagger=1:string info=2:Info host=3:string basePath=4:string schemes=5:*string consumes=6:*string
    produces=7:*string paths=8:Paths definitions=9:Definitions parameters=10:ParameterDefinitions
    responses=11:ResponseDefinitions security=12:*SecurityRequirement securityDefinitions=13:SecurityDefinitions
    tags=14:*Tag externalDocs=15:ExternalDocs x-=16:{Any
Examples: *=1:{Any
ExternalDocs: description=1:string url=2:string x-=3:{Any
FileSchema: format=1:string title=2:string description=3:string default=4:Any required=5:*string type=6:string
    readOnly=7:bool externalDocs=8:ExternalDocs example=9:Any x-=10:{Any
FormDataParameterSubSchema: required=1:bool in=2:string description=3:string name=4:string
    allowEmptyValue=5:bool type=6:string format=7:string items=8:PrimitivesItems collectionFormat=9:string
    default=10:Any maximum=11:double exclusiveMaximum=12:bool minimum=13:double exclusiveMinimum=14:bool
    maxLength=15:int64 minLength=16:int64 pattern=17:string maxItems=18:int64 minItems=19:int64
    uniqueItems=20:bool enum=21:*Any multipleOf=22:double x-=23:{Any
Header: type=1:string format=2:string items=3:PrimitivesItems collectionFormat=4:string default=5:Any
    maximum=6:double exclusiveMaximum=7:bool minimum=8:double exclusiveMinimum=9:bool maxLength=10:int64
    minLength=11:int64 pattern=12:string maxItems=13:int64 minItems=14:int64 uniqueItems=15:bool enum=16:*Any
    multipleOf=17:double description=18:string x-=19:{Any
HeaderParameterSubSchema: required=1:bool in=2:string description=3:string name=4:string type=5:string
    format=6:string items=7:PrimitivesItems collectionFormat=8:string default=9:Any maximum=10:double
    exclusiveMaximum=11:bool minimum=12:double exclusiveMinimum=13:bool maxLength=14:int64 minLength=15:int64
    pattern=16:string maxItems=17:int64 minItems=18:int64 uniqueItems=19:bool enum=20:*Any multipleOf=21:double
    x-=22:{Any
Headers: *=1:{Header
Info: title=1:string version=2:string description=3:string termsOfService=4:string contact=5:Contact
    license=6:License x-=7:{Any
ItemsItem: schema=1:*Schema
JsonReference: $ref=1:string description=2:string
License: name=1:string url=2:string x-=3:{Any
NonBodyParameter: headerParameterSubSchema=1:HeaderParameterSubSchema
    formDataParameterSubSchema=2:FormDataParameterSubSchema queryParameterSubSchema=3:QueryParameterSubSchema
    pathParameterSubSchema=4:PathParameterSubSchema
Oauth2AccessCodeSecurity: type=1:string flow=2:string scopes=3:Oauth2Scopes authorizationUrl=4:string
    tokenUrl=5:string description=6:string x-=7:{Any
Oauth2ApplicationSecurity: type=1:string flow=2:string scopes=3:Oauth2Scopes tokenUrl=4:string
    description=5:string x-=6:{Any
Oauth2ImplicitSecurity: type=1:string flow=2:string scopes=3:Oauth2Scopes authorizationUrl=4:string
    description=5:string x-=6:{Any
Oauth2PasswordSecurity: type=1:string flow=2:string scopes=3:Oauth2Scopes tokenUrl=4:string description=5:string
    x-=6:{Any
Oauth2Scopes: *=1:{String
Operation: tags=1:*string summary=2:string description=3:string externalDocs=4:ExternalDocs operationId=5:string
    produces=6:*string consumes=7:*string parameters=8:*ParametersItem responses=9:Responses schemes=10:*string
    deprecated=11:bool security=12:*SecurityRequirement x-=13:{Any
Parameter: bodyParameter=1:BodyParameter nonBodyParameter=2:NonBodyParameter
ParameterDefinitions: *=1:{Parameter
ParametersItem: parameter=1:Parameter jsonReference=2:JsonReference
PathItem: $ref=1:string get=2:Operation put=3:Operation post=4:Operation delete=5:Operation options=6:Operation
    head=7:Operation patch=8:Operation parameters=9:*ParametersItem x-=10:{Any
PathParameterSubSchema: required=1:bool in=2:string description=3:string name=4:string type=5:string
    format=6:string items=7:PrimitivesItems collectionFormat=8:string default=9:Any maximum=10:double
    exclusiveMaximum=11:bool minimum=12:double exclusiveMinimum=13:bool maxLength=14:int64 minLength=15:int64
    pattern=16:string maxItems=17:int64 minItems=18:int64 uniqueItems=19:bool enum=20:*Any multipleOf=21:double
    x-=22:{Any
Paths: x-=1:{Any *=2:{PathItem
PrimitivesItems: type=1:string format=2:string items=3:PrimitivesItems collectionFormat=4:string default=5:Any
    maximum=6:double exclusiveMaximum=7:bool minimum=8:double exclusiveMinimum=9:bool maxLength=10:int64
    minLength=11:int64 pattern=12:string maxItems=13:int64 minItems=14:int64 uniqueItems=15:bool enum=16:*Any
    multipleOf=17:double x-=18:{Any
Properties: *=1:{Schema
QueryParameterSubSchema: required=1:bool in=2:string description=3:string name=4:string allowEmptyValue=5:bool
    type=6:string format=7:string items=8:PrimitivesItems collectionFormat=9:string default=10:Any
    maximum=11:double exclusiveMaximum=12:bool minimum=13:double exclusiveMinimum=14:bool maxLength=15:int64
    minLength=16:int64 pattern=17:string maxItems=18:int64 minItems=19:int64 uniqueItems=20:bool enum=21:*Any
    multipleOf=22:double x-=23:{Any
Response: description=1:string schema=2:SchemaItem headers=3:Headers examples=4:Examples x-=5:{Any
ResponseDefinitions: *=1:{Response
ResponseValue: response=1:Response jsonReference=2:JsonReference
Responses: *=1:{ResponseValue x-=2:{Any
Schema: $ref=1:string format=2:string title=3:string description=4:string default=5:Any multipleOf=6:double
    maximum=7:double exclusiveMaximum=8:bool minimum=9:double exclusiveMinimum=10:bool maxLength=11:int64
    minLength=12:int64 pattern=13:string maxItems=14:int64 minItems=15:int64 uniqueItems=16:bool
    maxProperties=17:int64 minProperties=18:int64 required=19:*string enum=20:*Any
    additionalProperties=21:AdditionalPropertiesItem type=22:TypeItem items=23:ItemsItem allOf=24:*Schema
    properties=25:Properties discriminator=26:string readOnly=27:bool xml=28:Xml externalDocs=29:ExternalDocs
    example=30:Any x-=31:{Any
SchemaItem: schema=1:Schema fileSchema=2:FileSchema
SecurityDefinitions: *=1:{SecurityDefinitionsItem
SecurityDefinitionsItem: basicAuthenticationSecurity=1:BasicAuthenticationSecurity
    apiKeySecurity=2:ApiKeySecurity oauth2ImplicitSecurity=3:Oauth2ImplicitSecurity
    oauth2PasswordSecurity=4:Oauth2PasswordSecurity oauth2ApplicationSecurity=5:Oauth2ApplicationSecurity
    oauth2AccessCodeSecurity=6:Oauth2AccessCodeSecurity
SecurityRequirement: *=1:{StringArray
Tag: name=1:string description=2:string externalDocs=3:ExternalDocs x-=4:{Any
TypeItem: value=1:*string
Xml: name=1:string namespace=2:string prefix=3:string attribute=4:bool wrapped=5:bool x-=6:{Any
"""

V3 = """
AdditionalPropertiesItem: schemaOrReference=1:SchemaOrReference boolean=2:bool
AnyOrExpression: any=1:Any expression=2:Expression
Callback: *=1:{PathItem x-=2:{Any
CallbackOrReference: callback=1:Callback reference=2:Reference
CallbacksOrReferences: *=1:{CallbackOrReference
Components: schemas=1:SchemasOrReferences responses=2:ResponsesOrReferences parameters=3:ParametersOrReferences
    examples=4:ExamplesOrReferences requestBodies=5:RequestBodiesOrReferences headers=6:HeadersOrReferences
    securitySchemes=7:SecuritySchemesOrReferences links=8:LinksOrReferences callbacks=9:CallbacksOrReferences
    x-=10:{Any
Contact: name=1:string url=2:string email=3:string x-=4:{Any
DefaultType: number=1:double boolean=2:bool string=3:string
Discriminator: propertyName=1:string mapping=2:Strings x-=3:{Any
Document: openapi=1:string info=2:Info servers=3:*Server paths=4:Paths components=5:Components
    security=6:*SecurityRequirement tags=7:*Tag externalDocs=8:ExternalDocs x-=9:{Any
Encoding: contentType=1:string headers=2:HeadersOrReferences style=3:string explode=4:bool allowReserved=5:bool
    x-=6:{Any
Encodings: *=1:{Encoding
ExampleOrReference: example=1:Example reference=2:Reference
ExamplesOrReferences: *=1:{ExampleOrReference
ExternalDocs: description=1:string url=2:string x-=3:{Any
Header: description=1:string required=2:bool deprecated=3:bool allowEmptyValue=4:bool style=5:string
    explode=6:bool allowReserved=7:bool schema=8:SchemaOrReference example=9:Any
    examples=10:ExamplesOrReferences content=11:MediaTypes x-=12:{Any
HeaderOrReference: header=1:Header reference=2:Reference
HeadersOrReferences: *=1:{HeaderOrReference
Info: title=1:string description=2:string termsOfService=3:string contact=4:Contact license=5:License
    version=6:string x-=7:{Any summary=8:string
ItemsItem: schemaOrReference=1:*SchemaOrReference
License: name=1:string url=2:string x-=3:{Any
Link: operationRef=1:string operationId=2:string parameters=3:AnyOrExpression requestBody=4:AnyOrExpression
    description=5:string server=6:Server x-=7:{Any
LinkOrReference: link=1:Link reference=2:Reference
LinksOrReferences: *=1:{LinkOrReference
MediaType: schema=1:SchemaOrReference example=2:Any examples=3:ExamplesOrReferences encoding=4:Encodings
    x-=5:{Any
MediaTypes: *=1:{MediaType
OauthFlow: authorizationUrl=1:string tokenUrl=2:string refreshUrl=3:string scopes=4:Strings x-=5:{Any
OauthFlows: implicit=1:OauthFlow password=2:OauthFlow clientCredentials=3:OauthFlow
    authorizationCode=4:OauthFlow x-=5:{Any
Operation: tags=1:*string summary=2:string description=3:string externalDocs=4:ExternalDocs operationId=5:string
    parameters=6:*ParameterOrReference requestBody=7:RequestBodyOrReference responses=8:Responses
    callbacks=9:CallbacksOrReferences deprecated=10:bool security=11:*SecurityRequirement servers=12:*Server
    x-=13:{Any
Parameter: name=1:string in=2:string description=3:string required=4:bool deprecated=5:bool
    allowEmptyValue=6:bool style=7:string explode=8:bool allowReserved=9:bool schema=10:SchemaOrReference
    example=11:Any examples=12:ExamplesOrReferences content=13:MediaTypes x-=14:{Any
ParameterOrReference: parameter=1:Parameter reference=2:Reference
ParametersOrReferences: *=1:{ParameterOrReference
PathItem: $ref=1:string summary=2:string description=3:string get=4:Operation put=5:Operation post=6:Operation
    delete=7:Operation options=8:Operation head=9:Operation patch=10:Operation trace=11:Operation
    servers=12:*Server parameters=13:*ParameterOrReference x-=14:{Any
Paths: *=1:{PathItem x-=2:{Any
Properties: *=1:{SchemaOrReference
Reference: $ref=1:string summary=2:string description=3:string
RequestBodiesOrReferences: *=1:{RequestBodyOrReference
RequestBody: description=1:string content=2:MediaTypes required=3:bool x-=4:{Any
RequestBodyOrReference: requestBody=1:RequestBody reference=2:Reference
Response: description=1:string headers=2:HeadersOrReferences content=3:MediaTypes links=4:LinksOrReferences
    x-=5:{Any
ResponseOrReference: response=1:Response reference=2:Reference
Responses: default=1:ResponseOrReference *=2:{ResponseOrReference x-=3:{Any
ResponsesOrReferences: *=1:{ResponseOrReference
Schema: nullable=1:bool discriminator=2:Discriminator readOnly=3:bool writeOnly=4:bool xml=5:Xml
    externalDocs=6:ExternalDocs example=7:Any deprecated=8:bool title=9:string multipleOf=10:double
    maximum=11:double exclusiveMaximum=12:bool minimum=13:double exclusiveMinimum=14:bool maxLength=15:int64
    minLength=16:int64 pattern=17:string maxItems=18:int64 minItems=19:int64 uniqueItems=20:bool
    maxProperties=21:int64 minProperties=22:int64 required=23:*string enum=24:*Any type=25:string
    allOf=26:*SchemaOrReference oneOf=27:*SchemaOrReference anyOf=28:*SchemaOrReference not=29:Schema
    items=30:ItemsItem properties=31:Properties additionalProperties=32:AdditionalPropertiesItem
    default=33:DefaultType description=34:string format=35:string x-=36:{Any
SchemaOrReference: schema=1:Schema reference=2:Reference
SchemasOrReferences: *=1:{SchemaOrReference
SecurityRequirement: *=1:{StringArray
SecurityScheme: type=1:string description=2:string name=3:string in=4:string scheme=5:string
    bearerFormat=6:string flows=7:OauthFlows openIdConnectUrl=8:string x-=9:{Any
SecuritySchemeOrReference: securityScheme=1:SecurityScheme reference=2:Reference
SecuritySchemesOrReferences: *=1:{SecuritySchemeOrReference
Server: url=1:string description=2:string variables=3:ServerVariables x-=4:{Any
ServerVariable: enum=1:*string default=2:string description=3:string x-=4:{Any
ServerVariables: *=1:{ServerVariable
Strings: *=1:{String
Tag: name=1:string description=2:string externalDocs=3:ExternalDocs x-=4:{Any
Xml: name=1:string namespace=2:string prefix=3:string attribute=4:bool wrapped=5:bool x-=6:{Any
"""
